"""What a message is known by: 16 bytes of BLAKE2b over workspace, source and message id.

Digests, not texts: a row has a fixed size, and the table holds no identifier of the customer's. Among 10^10 messages
two have the same digest with a probability of 10^-19.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Final

KEY_BYTES: Final = 16


@lru_cache(maxsize=4096)
def source_prefix(workspace: str, source: str) -> bytes:
    """What stands before the message ids of a source; lengths in front, so that no two sources share one."""
    names = (workspace.encode(), source.encode())
    return b"".join(b"%d:%s" % (len(name), name) for name in names)


def message_key(prefix: bytes, message_id: str) -> bytes:
    """The key of an event; `prefix` is its source's."""
    return blake2b(prefix + message_id.encode(), digest_size=KEY_BYTES).digest()


def rejected_key(prefix: bytes, message_id: str, received_ns: int, index: int) -> bytes:
    """The key of a refused event's record.

    Not of the message: a client may mend the event and send it again. The record is told from all others by when its
    request was received and its place in it.
    """
    return blake2b(b"!%d:%d:" % (received_ns, index) + prefix + message_id.encode(), digest_size=KEY_BYTES).digest()
