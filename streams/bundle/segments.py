"""Records as they lie in a segment: framed one after the other, then compressed. What goes in comes out, byte for byte.

A record that was left out (another device's) keeps its place: offset and append time, without key, value and headers. So
"the first record at or after a time" has the same answer in a bundle as on the broker.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.errors import BundleError
from streams.records import Record

RAW_BYTES = 4 * 2**20
MOST_RAW_BYTES = 64 * 2**20
MOST_ITEMS = MOST_HEADERS = 65_536
_LEVEL = 3
_FIXED = struct.Struct(">BQq")
_LENGTHS = struct.Struct(">iiI")
_HEADER = struct.Struct(">Ii")
_RECORD, _LEFT_OUT = 0, 1
_NONE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The place of a record that the bundle does not hold."""

    offset: int
    appended_at_ms: int


Item = Record | LeftOut


def frame(item: Item) -> bytes:
    """One item as bytes."""
    if isinstance(item, LeftOut):
        return _FIXED.pack(_LEFT_OUT, item.offset, item.appended_at_ms)
    parts = [
        _FIXED.pack(_RECORD, item.offset, item.appended_at_ms),
        _LENGTHS.pack(_length(item.key), _length(item.value), len(item.headers)),
        item.key or b"",
        item.value or b"",
    ]
    for name, value in item.headers:
        encoded = name.encode("utf-8", "surrogatepass")
        parts += (_HEADER.pack(len(encoded), _length(value)), encoded, value or b"")
    return b"".join(parts)


def compress(raw: bytes) -> bytes:
    return zlib.compress(raw, _LEVEL)


def decompress(content: bytes, raw_bytes: int, entry: str) -> bytes:
    """What was compressed, and never more than it says to be.

    Raises:
        BundleError: it is no segment, or another length comes out.
    """
    unpacking = zlib.decompressobj()
    try:
        raw = unpacking.decompress(content, raw_bytes + 1)
    except zlib.error as error:
        raise BundleError(f"it cannot be unpacked: {error}", entry=entry) from error
    if len(raw) != raw_bytes or not unpacking.eof or unpacking.unused_data:
        raise BundleError(f"it does not unpack to the {raw_bytes} bytes that the manifest says", entry=entry)
    return raw


def items(raw: bytes, topic: str, partition: int, entry: str) -> Iterator[Item]:
    """The items of a segment, in their order.

    Raises:
        BundleError: a length leads out of the segment.
    """
    at, end = 0, len(raw)
    try:
        while at < end:
            kind, offset, appended_at_ms = _FIXED.unpack_from(raw, at)
            at += _FIXED.size
            if kind == _LEFT_OUT:
                yield LeftOut(offset=offset, appended_at_ms=appended_at_ms)
                continue
            if kind != _RECORD:
                raise BundleError(f"an item of kind {kind} is not known", entry=entry)
            key_length, value_length, headers_count = _LENGTHS.unpack_from(raw, at)
            at += _LENGTHS.size
            if headers_count > MOST_HEADERS:
                raise BundleError(f"a record with {headers_count} headers is none", entry=entry)
            key, at = _taken(raw, at, key_length)
            value, at = _taken(raw, at, value_length)
            headers = []
            for _ in range(headers_count):
                name_length, length = _HEADER.unpack_from(raw, at)
                name, at = _taken(raw, at + _HEADER.size, name_length)
                content, at = _taken(raw, at, length)
                headers.append(((name or b"").decode("utf-8", "surrogatepass"), content))
            yield Record(
                topic=topic,
                partition=partition,
                offset=offset,
                appended_at_ms=appended_at_ms,
                key=key,
                value=value,
                headers=tuple(headers),  # type: ignore[arg-type]  # Kafka has headers without a value, and they come back so
            )
    except (struct.error, ValueError) as error:
        raise BundleError(f"it is no segment: {error}", entry=entry) from error


def _length(content: bytes | None) -> int:
    return _NONE if content is None else len(content)


def _taken(raw: bytes, at: int, length: int) -> tuple[bytes | None, int]:
    if length == _NONE:
        return None, at
    if length < 0 or at + length > len(raw):
        raise ValueError(f"{length} bytes at {at} of {len(raw)}")
    return raw[at : at + length], at + length
