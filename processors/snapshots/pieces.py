"""Pieces of a snapshot: the states of the keys of one bucket, as sorted JSON lines, compressed.

The first line says where the piece was written, so pieces of two snapshots are one blob only when the later one took the
earlier one's over. The lines after it are
`{"key": ..., "state": ...}`. One key is found without reading the other states.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping

from schemas.errors import DecodeError
from schemas.plain import canonical_json, json_text

MEDIA_TYPE = "application/x-ndjson+gzip"
_HASH_BITS = 32
_LEVEL = 3
_MOST_BYTES = 128 * 2**20
_FIRST, _BETWEEN = b'{"key":', b'","state":'


def hash_of(key: str) -> int:
    """32 bits of a key, unrelated to the hash that chose its partition."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=_HASH_BITS // 8).digest(), "big")


def bucket_of(hashed: int, buckets: int) -> int:
    """The bucket of a hash; with twice as many buckets, bucket n becomes 2n and 2n + 1."""
    return hashed * buckets >> _HASH_BITS


def buckets_for(keys_count: int) -> int:
    """How many buckets suit: the largest power of two whose square is not above the number of keys.

    So a manifest and a piece both grow with the square root of the number of keys.
    """
    return 1 << max(0, (max(1, keys_count).bit_length() - 1) // 2)


def lines_of(states: Mapping[str, bytes]) -> bytes:
    """The lines of a piece, from the canonical JSON of each key's state."""
    return b"".join([b'{"key":%b,"state":%b}\n' % (json_text(key).encode(), states[key]) for key in sorted(states)])


def pack(written: Mapping[str, object], lines: bytes) -> bytes:
    """A piece's content.

    Args:
        written: Where it was written: view, partition, offset, bucket.
    """
    return gzip.compress(canonical_json(written) + b"\n" + lines, _LEVEL, mtime=0)


def digest(lines: bytes) -> str:
    """sha256 over the lines: of the states alone, wherever and however they were packed."""
    return hashlib.sha256(lines).hexdigest()


def states_of(content: bytes) -> dict[str, bytes]:
    """Canonical JSON of every key's state.

    Raises:
        DecodeError: it is no piece.
    """
    states = {}
    for line in _unpacked(content).split(b"\n")[1:-1]:
        # Quotes inside of a key are escaped, so the first place that looks like the key's end is it.
        end = line.find(_BETWEEN) + 1
        try:
            states[json.loads(line[len(_FIRST) : end])] = line[end - 1 + len(_BETWEEN) : -1]
        except (ValueError, TypeError, RecursionError) as error:
            raise DecodeError(f"a line of a snapshot's piece is no key with its state: {line[:80]!r}") from error
    return states


def state_of(content: bytes, key: str) -> bytes | None:
    """Canonical JSON of one key's state; None when the piece does not hold the key.

    Raises:
        DecodeError: it is no piece.
    """
    lines = _unpacked(content)
    mark = b"\n" + _FIRST + json_text(key).encode() + _BETWEEN[1:]
    start = lines.find(mark)
    return None if start < 0 else lines[start + len(mark) : lines.index(b"\n", start + 1) - 1]


def unpacked(content: bytes) -> bytes:
    """What was compressed, and never more than any piece or manifest has: a bundle may bring anything.

    Raises:
        DecodeError: it is not gzip, or more comes out.
    """
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = unpacking.decompress(content, _MOST_BYTES)
    except zlib.error as error:
        raise DecodeError(f"it cannot be unpacked: {error}") from error
    if not unpacking.eof or unpacking.unused_data:
        raise DecodeError(f"it is cut short, or unpacks to more than {_MOST_BYTES} bytes")
    return found


def _unpacked(content: bytes) -> bytes:
    try:
        lines = unpacked(content)
    except DecodeError as error:
        raise DecodeError(f"a snapshot's piece: {error}") from error
    if not lines.endswith(b"\n"):
        raise DecodeError("a snapshot's piece has no end")
    return lines
