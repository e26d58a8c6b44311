"""Lets requests into the pipeline, or refuses them to the source that sends too much.

Two questions, in this order: does the source keep its rate (`gcra`), and does the pipeline have room for more of it
(`adaptive`, `share`)? A source that exceeds either is told 429; 503 is left for what is nobody's fault. Fails open: a
source about which nothing is remembered may send.

Every gateway process counts for itself: behind a balancer, N gateways let through N times the rate.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from gateway.errors import RateLimited
from gateway.limits.adaptive import AdaptiveLimit, Bounds
from gateway.limits.fields import policy_field, state_field
from gateway.limits.gcra import NANOS, Quota, charge, wait_ns
from gateway.limits.share import ALPHA, Room, room_for
from gateway.sources import Source, SourceLimits
from mesh.errors import Overloaded
from mesh.status import MAX_RETRY_AFTER_SECONDS

MAX_REMEMBERED: Final = 10_000
"""Sources about which anything is kept."""

_SHARE_SECONDS: Final = 1
STALL_NS: Final = NANOS // 2
"""When the pipeline has answered nothing for so long, what piles up in it is no source's fault."""


class Standing:
    """What one source has sent, and what it has in the pipeline."""

    __slots__ = ("in_flight", "limits", "quota", "tat_ns")

    def __init__(self) -> None:
        self.in_flight = 0
        self.tat_ns = 0
        self.limits: SourceLimits | None = None
        self.quota: Quota | None = None


Passage = tuple[Standing, int, int]
"""A request that was let in: whose it is, its weight, and when it entered."""


class Limiter:
    """Keeps each source to its rate and to its share of the pipeline.

    Args:
        meter: Counts what is refused.
        default: The limits of sources that have none of their own; None: no rate limit.
        bounds: How much the pipeline may hold.
        now_ns: A clock that does not go backwards, nanoseconds.
    """

    def __init__(
        self,
        meter: Meter,
        default: SourceLimits | None = None,
        bounds: Bounds | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._default = default
        self._now_ns = now_ns
        self._limit = AdaptiveLimit(bounds or Bounds(), now_ns())
        self._standings: dict[tuple[str, str], Standing] = {}
        self._total = 0
        self._sources = 0
        self._answered_ns = now_ns()
        # Read when measurements leave: a counter of OpenTelemetry's costs as much as the rest of a refusal.
        self._refused: Counter[tuple[str, str, str]] = Counter()
        meter.create_observable_counter(
            "clew.limits.refused",
            [self._refusals],
            unit="{event}",
            description="Events of refused requests by source and cause",
        )
        meter.create_observable_gauge(
            "clew.limits.events",
            [self._observations],
            unit="{event}",
            description="How many events the pipeline may hold now",
        )

    @property
    def value(self) -> int:
        """Events that may be in the pipeline now."""
        return self._limit.value

    @property
    def in_flight(self) -> int:
        """Events that are in the pipeline."""
        return self._total

    def check(self, source: Source) -> None:
        """Refuse a source that may not send a single event, before its body costs any work.

        Raises:
            RateLimited: Its rate is used up.
        """
        if self._default is None and source.limits is None:
            return
        standing = self._standing(source)
        if standing.quota is not None:
            self._check_rate(source, standing, standing.quota, 1, self._now_ns())

    def enter(self, source: Source, count: int, weight: int) -> Passage:
        """Let the events of a request in; `leave` must follow.

        Args:
            source: Who sends them.
            count: How many they are, which is what a rate counts.
            weight: How much room they take (`share.weight`).

        Raises:
            RateLimited: The source exceeds its rate or its share. Nothing was counted.
            Overloaded: All sources together exceed what the pipeline can hold. Nothing was counted.
        """
        standing = self._standings.get((source.workspace, source.name))
        if standing is None or standing.limits is not (source.limits or self._default):
            standing = self._standing(source)
        now_ns = self._now_ns()
        quota = standing.quota
        if quota is not None:
            self._check_rate(source, standing, quota, count, now_ns)
        own = standing.in_flight
        if own + weight > ALPHA * (self._limit.value - self._total):
            self._check_room(source, count, weight, own, now_ns)
        if quota is not None:
            standing.tat_ns = charge(standing.tat_ns, count, quota, now_ns)
        if not own:
            self._sources += 1
        standing.in_flight = own + weight
        if not self._total:
            # From here on an answer can be waited for.
            self._answered_ns = now_ns
        self._total += weight
        return standing, weight, now_ns

    def leave(self, passage: Passage, *, answered: bool) -> None:
        """Let a request out again; `answered`: each of its events has its verdict."""
        standing, weight, entered_ns = passage
        standing.in_flight -= weight
        if not standing.in_flight:
            self._sources -= 1
        self._total -= weight
        now_ns = self._now_ns()
        if answered:
            self._answered_ns = now_ns
        self._limit.observe(weight, entered_ns, now_ns, answered)

    def fields(self, source: Source) -> tuple[tuple[str, str], ...]:
        """The header fields that tell a source how much of its rate is left; none where it has no limit."""
        if self._default is None and source.limits is None:
            return ()
        standing = self._standing(source)
        if standing.quota is None:
            return ()
        state = state_field(standing.tat_ns, standing.quota, self._now_ns())
        return ("ratelimit", state), ("ratelimit-policy", policy_field(standing.quota))

    def _standing(self, source: Source) -> Standing:
        standing = self._standings.get((source.workspace, source.name))
        if standing is None:
            standing = self._new_standing(source)
        limits = source.limits or self._default
        if limits is not standing.limits:
            standing.limits = limits
            standing.quota = None if limits is None else Quota.of(limits.events_per_second, limits.burst)
        return standing

    def _new_standing(self, source: Source) -> Standing:
        if len(self._standings) >= MAX_REMEMBERED:
            self._forget(self._now_ns())
        standing = self._standings[source.workspace, source.name] = Standing()
        return standing

    def _check_rate(self, source: Source, standing: Standing, quota: Quota, count: int, now_ns: int) -> None:
        wait = wait_ns(standing.tat_ns, count, quota, now_ns)
        if wait <= 0:
            return
        self._count_refused(source, count, "rate")
        raise RateLimited(
            "the source sends more events a second than it may; send the same events again later",
            scope="rate",
            retry_after_seconds=str(min(-(-wait // NANOS), MAX_RETRY_AFTER_SECONDS)),
            ratelimit=state_field(standing.tat_ns, quota, now_ns),
            ratelimit_policy=policy_field(quota),
        )

    def _check_room(self, source: Source, count: int, weight: int, own: int, now_ns: int) -> None:
        limit = self._limit
        room = room_for(weight, own, total=self._total, limit=limit.value, most=limit.most, sources=self._sources)
        if room is Room.FREE:
            return
        limit.miss()
        if room is Room.ALL_TAKEN or now_ns - self._answered_ns > STALL_NS:
            self._count_refused(source, count, "overload")
            raise Overloaded("more events are in flight than the gateway takes; send the same events again")
        self._count_refused(source, count, "share")
        raise RateLimited(
            "the source has more events in flight than its share; send the same events again, fewer at a time",
            scope="share",
            retry_after_seconds=str(_SHARE_SECONDS),
        )

    def _count_refused(self, source: Source, count: int, cause: str) -> None:
        self._refused[source.workspace, source.name, cause] += count

    def _forget(self, now_ns: int) -> None:
        """Forget sources that would be let in as if they were new; where too few are, also those seen first.

        What is in the pipeline is never forgotten; there are fewer of those than events that it may hold.
        """
        idle = [key for key, standing in self._standings.items() if not standing.in_flight]
        full = [key for key in idle if self._standings[key].tat_ns <= now_ns]
        for key in full if 2 * len(full) > len(idle) else idle[: max(1, len(idle) // 2)]:
            del self._standings[key]

    def _observations(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(self._limit.value)]

    def _refusals(self, _: CallbackOptions) -> list[Observation]:
        return [
            Observation(number, {"workspace": workspace, "source": name, "cause": cause})
            # A copy: measurements are taken on a thread of their own.
            for (workspace, name, cause), number in list(self._refused.items())
        ]
