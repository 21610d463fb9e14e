"""What a record costs in what can be counted: round trips, appends, tasks. Benchmarks tell the time; these must not grow."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from processors.infer.core import Route
from processors.infer.step import InferStep, Retries
from processors.partition import PartitionRunner
from processors.step import Ports
from processors.views.catalogue import VIEWS
from processors.views.step import ViewStep
from schemas.catalogue import ASSESSMENTS
from schemas.catalogue import FRAMES as FRAMES_TOPIC
from schemas.codec import FixedSchemas, encode
from schemas.types import SourcePosition
from streams.keyring import KeyRing
from streams.memory import MemoryBlobStore, MemoryLog, MemoryObjects, MemoryViewStore
from streams.packing import Packer
from streams.ports import Answer, Stored
from streams.publishing import FramePublisher, IncomingFrame
from streams.records import Outgoing
from streams.sealed_blobs import SealedBlobs
from tests.given import AT_US, accepted
from tests.simulation import virtual_time

FRAMES = 300


class CountingViews(MemoryViewStore):
    """A view store that counts its round trips."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    async def load(self, view: str, partition: int, keys: tuple[str, ...]) -> Stored:
        self._counts["loads"] += 1
        return await super().load(view, partition, keys)

    async def save(
        self, view: str, partition: int, *, expected: int, position: int, changes: Mapping[str, bytes], digest: str | None = None
    ) -> str | None:
        self._counts["saves"] += 1
        return await super().save(view, partition, expected=expected, position=position, changes=changes, digest=digest)


class Models:
    """Reads at once, and counts."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        self._counts["calls"] += 1
        result = b'{"image": {"width_px": 32, "height_px": 24}, "observations": [], "candidates": []}'
        return Answer(result_json=result, report_json=b'{"steps": [], "runtime": {}}', endpoint="one:8001")


def counted(step: Callable[[Counter[str], MemoryBlobStore], Any], *, batch: int) -> Counter[str]:
    """Everything that a step did for 300 accepted frames of one partition, handed over at once."""
    counts: Counter[str] = Counter()

    async def whole() -> None:
        log, views, schemas, blobs = (
            MemoryLog(lambda: AT_US, partitions=1),
            CountingViews(counts),
            FixedSchemas(),
            MemoryBlobStore(),
        )
        blob = blobs.put(b"a picture", "image/png")
        for sequence in range(FRAMES):
            event = accepted(sequence)
            source = SourcePosition(topic=FRAMES_TOPIC, partition=0, offset=sequence, index=0)
            event = replace(event, frame=replace(event.frame, blob=blob), source=source)
            value = encode(event, schemas)
            log.append_now(Outgoing(topic=ASSESSMENTS, key=b"gate-1", value=value, headers=(), partition=0))
        ports: Ports[Any] = Ports(
            log=log, appender=CountingAppender(log, counts), views=views, schemas=schemas, clock=lambda: AT_US
        )
        done = asyncio.Event()
        runner: PartitionRunner[Any] = PartitionRunner(
            step(counts, blobs), ports, 0, window=FRAMES, batch=batch, failed=lambda error: done.set()
        )
        asyncio.get_running_loop().set_task_factory(_counting(counts))
        await runner.submit(list(log.read(ASSESSMENTS, 0, 0, FRAMES)), lambda r: done.set() if r.offset == FRAMES - 1 else None)
        await done.wait()
        asyncio.get_running_loop().set_task_factory(None)
        await runner.stop()

    virtual_time.run(whole)
    return counts


class CountingAppender:
    def __init__(self, log: MemoryLog, counts: Counter[str]) -> None:
        self._log, self._counts = log, counts

    def append(self, outgoing: Outgoing) -> Awaitable[Any]:
        self._counts["appends"] += 1
        return self._log.append(outgoing)


def _counting(counts: Counter[str]) -> Any:
    def made(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> Any:
        counts["tasks"] += 1
        return asyncio.Task(work, loop=loop, **more)

    return made


class CountingObjects(MemoryObjects):
    """Objects whose PUTs are counted."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    def write(self, name: str, content: bytes, media_type: str) -> None:
        self._counts["puts"] += 1
        super().write(name, content, media_type)


@pytest.mark.parametrize(("packed", "puts"), [(False, FRAMES), (True, 1)])
def test_frames_that_arrive_together_take_one_put(packed: bool, puts: int) -> None:
    """300 frames of many devices at one moment: one PUT with packing, one each without; one append each in any case."""
    counts: Counter[str] = Counter()
    objects, keys, log = CountingObjects(counts), MemoryObjects(), MemoryLog(lambda: AT_US)
    store = SealedBlobs(MemoryBlobStore(), objects, KeyRing(keys, bytes(32)), seals=True)
    publisher = FramePublisher(
        appender=CountingAppender(log, counts),
        blobs=store,
        schemas=FixedSchemas(),
        clock=lambda: AT_US,
        channel="grpc",
        packer=Packer(store, frame_bytes_max=1000) if packed else None,
    )
    frames = [
        IncomingFrame(device_id=f"gate-{n % 64}", session_id="s", sequence=n, captured_at_us=AT_US + n, image=b"image %d" % n)
        for n in range(FRAMES)
    ]

    async def work() -> None:
        await asyncio.gather(*map(publisher.publish, frames))

    asyncio.run(work())
    assert (counts["puts"], counts["appends"]) == (puts, FRAMES)


def test_a_view_takes_one_round_trip_for_a_batch_and_no_task_for_a_record() -> None:
    """300 records in batches of 100: one load at the beginning and three saves, and nothing appended."""
    counts = counted(lambda *_: ViewStep(VIEWS["device_frames"]), batch=100)
    assert (counts["loads"], counts["saves"], counts["appends"]) == (1, 3, 0)
    assert counts["tasks"] <= 3


def test_a_frame_that_is_read_takes_one_call_one_append_and_two_tasks_at_most() -> None:
    """Beside its fetch of the picture; states are stored for a batch, not for a frame."""

    def infer(counts: Counter[str], blobs: MemoryBlobStore) -> InferStep:
        route = Route(release="r1", parameters={}, pins={}, releases_offset=0)
        return InferStep(
            pipeline="gate",
            route=lambda _: route,
            inference=Models(counts),
            blobs=blobs,
            clock=lambda: AT_US,
            retries=Retries(),
            concurrency=FRAMES,
        )

    counts = counted(infer, batch=FRAMES)
    assert (counts["calls"], counts["appends"]) == (FRAMES, FRAMES)
    assert counts["tasks"] <= 2 * FRAMES + 10
    assert counts["loads"] + counts["saves"] <= FRAMES // 4
