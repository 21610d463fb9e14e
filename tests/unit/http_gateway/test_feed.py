"""The shared feed of results on the in-memory log: bounded buffers and the way back to the log."""

import asyncio
import threading

from schemas import ids
from schemas.catalogue import RESULTS
from schemas.codec import FixedSchemas, encode
from schemas.events import ResultDerived
from schemas.types import BlobRef, DeviceId, EventId, FrameRef, SourcePosition
from streams.http_gateway.feed import Item, ResultFeed, Subscription
from streams.http_gateway.metrics import HttpMetrics
from streams.http_gateway.result_stream import ResultStream
from streams.memory import MemoryLog
from streams.records import Outgoing

SCHEMAS = FixedSchemas()


def outgoing(number: int) -> Outgoing:
    frame = FrameRef(
        frame_id=ids.frame_id("d", "s", number),
        device_id=DeviceId("d"),
        session_id="s",
        sequence=number,
        captured_at_us=1,
        blob=BlobRef(sha256="0" * 64, size_bytes=1, media_type="image/png"),
        labels={},
    )
    event = ResultDerived(
        event_id=EventId(frame.frame_id),
        source=SourcePosition(topic="vision.inferences", partition=0, offset=number, index=0),
        frame=frame,
        inference_id=EventId(frame.frame_id),
        pipeline="p",
        outcome="read",
        readings=(),
        rules="r",
        detail="",
        derived_at_us=1,
    )
    return Outgoing(topic=RESULTS, key=b"d", value=encode(event, SCHEMAS), headers=(), partition=number % 2)


def item(offset: int) -> Item:
    return Item(partition=0, offset=offset, device_id="d", event="E", text="{}")


def test_a_full_buffer_gives_what_it_holds_and_then_says_so() -> None:
    """Nothing after the first item that did not fit is kept, so what was taken is a prefix without gaps."""

    async def run() -> None:
        subscription = Subscription({0: 0}, 2)
        for offset in range(4):
            subscription.offer(item(offset))
        assert [(await subscription.take()), (await subscription.take())] == [item(0), item(1)]
        subscription.offer(item(4))
        assert await subscription.take() is None

    asyncio.run(run())


def test_a_client_with_a_tiny_buffer_gets_every_record_once_and_in_order() -> None:
    """However often a client falls behind, it gets each partition whole; when all are gone the thread has ended."""

    async def run() -> None:
        log = MemoryLog(lambda: 1, partitions=2)
        metrics = HttpMetrics()
        feed = ResultFeed(log=log, schemas=SCHEMAS, metrics=metrics, buffer=2)
        stream = ResultStream(log=log, feed=feed, metrics=metrics, most=2)
        for number in range(50):
            log.append_now(outgoing(number))
        events = stream.events(await stream.starts(resume={0: 0, 1: 5}, from_ms=None), None)
        found: list[str] = []
        for number in range(50, 400):
            log.append_now(outgoing(number))
        async with asyncio.timeout(20):
            async for event in events:
                if event.event == "ResultDerived":
                    found.append(str(event.id))
                if len(found) == 395:
                    break
        await events.aclose()
        assert len(set(found)) == 395
        assert found[-1] == "0:200,1:200"
        for partition in range(2):
            seen = [int(i.split(",")[partition].split(":")[1]) for i in found]
            assert seen == sorted(seen)
        for thread in threading.enumerate():
            if thread.name == "result-feed":
                thread.join(10)
                assert not thread.is_alive()

    asyncio.run(run())
