"""Which partition a key belongs to: what librdkafka's `murmur2_random` and Java's default partitioner choose.

Whoever says how far a key's records reach must know where they are without having produced them.
Source: MurmurHash2 (Austin Appleby, public domain) with the seed of Kafka's `Utils.murmur2`.
"""

from typing import Final

_MULTIPLIER: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_BITS: Final = 0xFFFFFFFF
_POSITIVE: Final = 0x7FFFFFFF


def murmur2(key: bytes) -> int:
    """The 32-bit hash of a key, without a sign."""
    hashed = _SEED ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * _MULTIPLIER & _BITS
        word = (word ^ word >> 24) * _MULTIPLIER & _BITS
        hashed = hashed * _MULTIPLIER & _BITS ^ word
    if whole < len(key):
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _BITS
    hashed = (hashed ^ hashed >> 13) * _MULTIPLIER & _BITS
    return hashed ^ hashed >> 15


def partition_of(key: bytes, count: int) -> int:
    """The partition of a key on a topic with so many partitions, at least 1; a missing key has none."""
    return (murmur2(key) & _POSITIVE) % count
