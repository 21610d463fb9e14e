"""Which partition a key belongs to: murmur2, the hash that Kafka's Java clients choose by unless they are told otherwise.

Others choose by another one: librdkafka, and what is built on it, by crc32 unless `partitioner` is `murmur2_random`. So
only what we write ourselves is sure to lie where this says.
"""

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Java's default partitioner chooses it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(content: bytes) -> int:
    """MurmurHash2, 32 bit, with Kafka's seed; unsigned."""
    h = _SEED ^ len(content)
    whole = len(content) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(content[at : at + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    rest = content[whole:]
    if rest:
        h = ((h ^ int.from_bytes(rest, "little")) * _M) & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)
