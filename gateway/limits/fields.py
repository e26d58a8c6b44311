"""`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), as structured fields (RFC 9651).

    RateLimit-Policy: "events";q=2000;w=2;qu="events"
    RateLimit: "events";r=1250;t=1

`q` is what the bucket holds and `w` the seconds in which it fills; `r` is what is left and `t` the seconds until it is
full again. The unit `qu` is the event, which the draft's registry does not have: a client that does not know it must
not take it for requests.
"""

from functools import lru_cache

from gateway.limits.gcra import NANOS, Quota, remaining

_NAME = '"events"'


@lru_cache(maxsize=1024)
def policy_field(quota: Quota) -> str:
    """The value of RateLimit-Policy."""
    return f'{_NAME};q={quota.burst};w={quota.window_seconds};qu="events"'


def state_field(tat_ns: int, quota: Quota, now_ns: int) -> str:
    """The value of RateLimit."""
    full_in = max(0, -(-(tat_ns - now_ns) // NANOS))
    return f"{_NAME};r={remaining(tat_ns, quota, now_ns)};t={full_in}"
