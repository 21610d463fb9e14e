"""Making, verifying and reading a bundle take the same memory for a window ten times as long."""

import hashlib
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from schemas import ids
from schemas.catalogue import ASSESSMENTS, FRAMES, TOPICS
from schemas.codec import FixedSchemas, encode
from schemas.errors import BlobGoneError
from schemas.events import FrameCaptured
from schemas.types import BlobRef, DeviceId, FrameRef
from streams.bundle import open_bundle, verify_bundle
from streams.past import Past
from streams.ports import BlobScope
from streams.records import Bounds, Record
from tests.bundles import START_US, bundled

IMAGE_BYTES, LABEL = 20_000, "x" * 12_000  # so that also the shorter one is more than what is kept in memory
SHORT, LONG = 1500, 15_000
ALLOWED = 1.15
FIXED_BYTES = 2 * 2**20  # what one segment more or less in the cache is worth


class MadeUp:
    """A log and a blob store that hold nothing: records and images are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._schemas = FixedSchemas()

    def partitions(self, topic: str) -> tuple[int, ...]:
        return (0,)

    def bounds(self, topic: str, partition: int) -> Bounds:
        return Bounds(earliest=0, end=self._count if topic == FRAMES else 0)

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        return max(0, min(self.bounds(topic, partition).end, at_ms - START_US // 1000))

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        for offset in range(start, min(stop, self.bounds(topic, partition).end)):
            yield self._record(offset)

    def follow(self, topic: str, starts: Mapping[int, int], stopped: Callable[[], bool]) -> Iterator[Record | None]:
        raise NotImplementedError

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        raise NotImplementedError

    def get(self, ref: BlobRef) -> bytes:
        if ref.size_bytes % 10 == 7:
            raise BlobGoneError(f"blob {ref.sha256} is not there: expired by rule 400 days")
        return image(ref.size_bytes - IMAGE_BYTES)

    def exists(self, ref: BlobRef) -> bool:
        return True

    def _record(self, offset: int) -> Record:
        size = IMAGE_BYTES + offset
        frame = FrameRef(
            frame_id=ids.frame_id("gate-1", "s", offset),
            device_id=DeviceId("gate-1"),
            session_id="s",
            sequence=offset,
            captured_at_us=START_US,
            blob=BlobRef(sha256=hashlib.sha256(image(offset)).hexdigest(), size_bytes=size, media_type="image/jpeg"),
            labels={"hash": hashlib.sha256(str(offset).encode()).hexdigest(), "long": LABEL},
        )
        event = FrameCaptured(event_id=ids.captured_id(frame.frame_id), frame=frame, received_at_us=START_US, channel="sdk")
        return Record(
            topic=FRAMES,
            partition=0,
            offset=offset,
            appended_at_ms=START_US // 1000 + offset,
            key=b"gate-1",
            value=encode(event, self._schemas),
            headers=(),
        )


def image(number: int) -> bytes:
    return str(number).encode().ljust(IMAGE_BYTES + number, b".")


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that was held at once over what was held before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def read_all(path: Path) -> int:
    with open_bundle(path) as past:
        count = sum(1 for topic in TOPICS for _ in past.log.read(topic, 0, 0, 10**9))
        assert past.log.offset_at(FRAMES, 0, START_US // 1000 + count - 2) == count - 2
        assert list(past.log.read(ASSESSMENTS, 0, 0, 9)) == []
        for number in range(0, count, 97):
            size = IMAGE_BYTES + number
            if size % 10 != 7:
                sha256 = hashlib.sha256(image(number)).hexdigest()
                assert past.blobs.get(BlobRef(sha256=sha256, size_bytes=size, media_type="x")) == image(number)
        return count


@pytest.mark.slow
def test_memory_does_not_grow_with_the_window(tmp_path: Path) -> None:
    """Made, verified and read: a window of ten times as many records and images, in the same memory."""
    peaks: dict[str, list[int]] = {"made": [], "verified": [], "read": []}
    sizes = []
    for count in (SHORT, LONG):
        made_up, path = MadeUp(count), tmp_path / f"{count}.hsb"
        past = Past(log=made_up, schemas=FixedSchemas(), blobs=made_up, source="made up")
        peaks["made"].append(peak_bytes(lambda past=past, path=path: bundled(past, path)))  # type: ignore[misc]
        peaks["verified"].append(peak_bytes(lambda path=path: verify_bundle(path)))  # type: ignore[misc]
        peaks["read"].append(peak_bytes(lambda path=path: read_all(path)))  # type: ignore[misc]
        assert verify_bundle(path).whole
        sizes.append(path.stat().st_size)
    assert sizes[1] > 10 * sizes[0] > 10 * 20_000_000
    for what, (short, long) in peaks.items():
        print(f"{what}: {short / 2**20:.1f} MiB and {long / 2**20:.1f} MiB for files of {sizes[0]} and {sizes[1]} bytes")
        assert long < short * ALLOWED + FIXED_BYTES, what
