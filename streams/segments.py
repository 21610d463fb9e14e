"""Segments: objects that hold the stored bytes of many blobs, one after another, so that many small frames take one PUT.

A segment is written once. After that only an erasure touches it, which overwrites stretches with zeros and leaves the others
where they are: every other reference stays good. Bytes that begin with `SHOWN_BYTES` zeros are never put into one, so
zeros are how a stretch says that it was wiped. `SealedBlobs`, which holds what is read against its digest, acts next.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from schemas.types import Stretch
from streams.blob_names import SEGMENTS, segment_name
from streams.ports import Objects

SHOWN_BYTES = 64
SEGMENT_BYTES_MOST = 64 * 1024 * 1024


class Segments:
    """Those of one bucket. All calls raise BlobStoreUnavailableError when it does not answer."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def write(self, parts: Sequence[bytes]) -> tuple[Stretch, ...]:
        """Store parts as one new segment; gives where each lies."""
        name, at, found = segment_name(time.time(), os.urandom(16)), 0, []
        for part in parts:
            found.append(Stretch(object=name, offset=at, length=len(part)))
            at += len(part)
        assert at <= SEGMENT_BYTES_MOST, "whoever packs keeps segments small"
        self._objects.write(name, b"".join(parts), "application/octet-stream")
        return tuple(found)

    def read(self, where: Stretch) -> bytes | None:
        """The stored bytes; None when the segment is gone, or they were wiped."""
        found = self._objects.read(where.object, where.length, start=where.offset)
        return found if found is not None and any(found[:SHOWN_BYTES]) else None

    def is_kept(self, where: Stretch) -> bool:
        """Whether `read` would find something."""
        found = self._objects.read(where.object, min(where.length, SHOWN_BYTES), start=where.offset)
        return found is not None and any(found)

    def wipe(self, stretches: Iterable[Stretch]) -> None:
        """Overwrite stretches with zeros, each segment once; one that is gone, or wiped already, is fine."""
        of: defaultdict[str, list[Stretch]] = defaultdict(list)
        for one in stretches:
            of[one.object].append(one)
        for name, wanted in of.items():
            found = self._objects.read(name, SEGMENT_BYTES_MOST)
            if found is None:
                continue
            content = bytearray(found)
            for one in wanted:
                end = min(one.offset + one.length, len(content))
                content[one.offset : end] = bytes(max(0, end - one.offset))
            if content != found:
                self._objects.write(name, bytes(content), "application/octet-stream")

    def names(self) -> Iterator[str]:
        """Every segment that is there."""
        return self._objects.list(SEGMENTS)


def may_be_packed(content: bytes) -> bool:
    """Whether bytes can be told from wiped ones."""
    return any(content[:SHOWN_BYTES])
