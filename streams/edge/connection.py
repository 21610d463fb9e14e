"""One connection of the edge client: writes entries, reads answers, removes what was answered from the spool.

Guarantees: entries go out in their order, no more than a window of them unanswered; an answered entry is removed before
it is counted, and what was answered is removed even when the connection ends. The client, which makes the next
connection, acts next.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import structlog

from streams.edge.entries import Entry, SpooledDrop, SpooledFrame
from streams.edge.spool import Spool
from streams.grpc_gateway.generated.frames_pb2 import DroppedFrames, Frame, FrameAck
from streams.grpc_gateway.generated.frames_pb2_grpc import FrameServiceStub
from streams.grpc_gateway.limits import IMAGE_BYTES_KEY

LARGER_THAN_GATEWAY_TAKES = "larger_than_gateway_takes"
_TAKE_FRAMES, _TAKE_BYTES = 16, 8 * 1024 * 1024
Noted = Callable[[Entry | None, FrameAck | None], Awaitable[None]]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much is under way, and how long things may take, in seconds.

    Args:
        in_flight_frames: Most entries sent and not acknowledged.
        connect_s: For a connection to come about.
        ack_s: For the oldest entry in flight to be acknowledged; after that the stream is made anew.
        backoff_first_s: Longest wait before the second attempt; it doubles, and the wait is drawn below it.
        backoff_max_s: Where it stops doubling.
    """

    in_flight_frames: int = 64
    connect_s: float = 5.0
    ack_s: float = 60.0
    backoff_first_s: float = 0.25
    backoff_max_s: float = 10.0


class Connection:
    """One stream of one channel: a writer and a reader with the entries in flight between them.

    Args:
        noted: Called with an entry when it is sent, with it and its answer when it is removed, with neither when connected.
        offered: Set when there may be something new in the spool.
    """

    def __init__(self, channel: grpc.aio.Channel, spool: Spool, pace: Pace, noted: Noted, offered: asyncio.Event) -> None:
        self._channel = channel
        self._spool = spool
        self._pace = pace
        self._noted = noted
        self._offered = offered
        self._in_flight: dict[int, tuple[Entry, float]] = {}
        self._answered: list[tuple[Entry, FrameAck]] = []
        self._changed = asyncio.Event()
        self._arrived = asyncio.Event()
        self._closing = False

    async def stream(self) -> str:
        """Send and remove until something goes wrong; gives what."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._pace.connect_s)
            call = FrameServiceStub(self._channel).StreamFramesAcked()  # type: ignore[no-untyped-call]  # generated
            try:
                async with asyncio.timeout(self._pace.connect_s):
                    limit = _image_bytes_max(await call.initial_metadata())
                await self._noted(None, None)
                return await self._exchange(call, limit)
            finally:
                call.cancel()
        except TimeoutError:
            return f"no connection within {self._pace.connect_s} s"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except asyncio.InvalidStateError:
            return "the stream broke off"

    async def _exchange(self, call: "grpc.aio.StreamStreamCall[Frame, FrameAck]", limit: int) -> str:
        reading = asyncio.create_task(self._read(call))
        forgetting = asyncio.create_task(self._forget())
        others = [asyncio.create_task(self._write(call, limit)), asyncio.create_task(self._watch())]
        try:
            await asyncio.wait({reading, forgetting, *others}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and others[0].done():
                # A writer only runs into the end of the stream; the reader is told why.
                await asyncio.wait({reading}, timeout=1.0)
            return next(task.result() for task in (forgetting, reading, *others) if task.done())
        finally:
            for task in (reading, *others):
                task.cancel()
            await asyncio.gather(reading, *others, return_exceptions=True)
            # Not cancelled: what was answered is removed and counted, or it would be sent again for nothing.
            self._closing = True
            self._arrived.set()
            await asyncio.wait({forgetting})

    async def _write(self, call: "grpc.aio.StreamStreamCall[Frame, FrameAck]", limit: int) -> str:
        after = -1
        while True:
            room = self._pace.in_flight_frames - len(self._in_flight)
            self._offered.clear()
            self._changed.clear()
            frames = min(room, _TAKE_FRAMES)
            entries = (
                await asyncio.to_thread(self._spool.take, after, frames=frames, size_bytes=_TAKE_BYTES) if frames > 0 else ()
            )
            if not entries:
                await _either(self._offered, self._changed)
            for entry in entries:
                after = entry.last_sequence if isinstance(entry, SpooledDrop) else entry.sequence
                if isinstance(entry, SpooledFrame) and limit and len(entry.image) > limit:
                    await asyncio.to_thread(self._spool.give_up, entry.sequence, LARGER_THAN_GATEWAY_TAKES)
                    after = entry.sequence - 1
                    break
                self._in_flight[entry.sequence] = (entry, time.monotonic())
                await call.write(_message(self._spool, entry))
                await self._noted(entry, None)

    async def _read(self, call: "grpc.aio.StreamStreamCall[Frame, FrameAck]") -> str:
        while (ack := await call.read()) is not grpc.aio.EOF:
            entry, _ = self._in_flight.pop(ack.sequence, (None, 0.0))
            if entry is None or ack.session_id != self._spool.session_id:
                return f"the gateway answered for sequence {ack.sequence} of {ack.session_id}, which was not sent"
            self._answered.append((entry, ack))
            self._changed.set()
            self._arrived.set()
        return f"{(await call.code()).name}: {await call.details() or 'the gateway ended the stream'}"

    async def _forget(self) -> str:
        """Remove what was answered from the spool, all that came since the last time in one commit."""
        while not (self._closing and not self._answered):
            await self._arrived.wait()
            self._arrived.clear()
            answered, self._answered = self._answered, []
            await asyncio.to_thread(self._spool.remove, tuple(entry.sequence for entry, _ in answered))
            for entry, ack in answered:
                if ack.status == FrameAck.REJECTED:
                    _log.warning("the gateway refused a frame", sequence=ack.sequence, reason=ack.reason, detail=ack.detail)
                await self._noted(entry, ack)
            if self._closing:
                self._arrived.set()
        return "closed"

    async def _watch(self) -> str:
        """End when the oldest entry in flight waits for too long."""
        while True:
            oldest = next(iter(self._in_flight.values()), None)
            since = time.monotonic() if oldest is None else oldest[1]
            left = since + self._pace.ack_s - time.monotonic()
            if left <= 0:
                return f"no acknowledgement within {self._pace.ack_s} s"
            await asyncio.sleep(left)


def _message(spool: Spool, entry: Entry) -> Frame:
    match entry:
        case SpooledDrop():
            count = entry.last_sequence - entry.sequence + 1
            dropped = DroppedFrames(
                first_sequence=entry.sequence, last_sequence=entry.last_sequence, frames_count=count, reason=entry.reason
            )
            return Frame(device_id=spool.device_id, session_id=spool.session_id, sequence=entry.sequence, dropped=dropped)
        case SpooledFrame():
            return Frame(
                device_id=spool.device_id,
                session_id=spool.session_id,
                sequence=entry.sequence,
                captured_at_us=entry.captured_at_us,
                image=entry.image,
                media_type=entry.media_type,
                passage_id=entry.passage_id or "",
                labels=dict(entry.labels),
                traceparent=entry.traceparent,
            )


def _image_bytes_max(metadata: "grpc.aio.Metadata") -> int:
    """What the gateway says it takes; 0 when it says nothing."""
    text = str(dict(metadata).get(IMAGE_BYTES_KEY, "0"))
    return int(text) if text.isdecimal() else 0


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
