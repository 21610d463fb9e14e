"""Sends a spool's entries to the gateway and removes each only after its acknowledgement, through any outage.

Guarantees: an entry leaves the spool only when the gateway has answered for it. After a lost connection, everything
unanswered is sent again in its order; the gateway and the assess processor know repeats by session and sequence, so
sending twice counts once. Offering never waits for the network, unless the spool is full and its policy is to block.

    with Spool(Path("spool"), device_id="gate-1", limit_bytes=500_000_000) as spool:
        client = EdgeClient("gateway:50051", spool)
        sending = asyncio.create_task(client.run(stop))
        await client.offer(Capture(image=jpeg, captured_at_us=time.time_ns() // 1000))
        await client.drained()
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import structlog

from streams.edge.entries import Capture, Entry, Spooled, SpooledDrop, SpooledFrame
from streams.edge.spool import Spool
from streams.grpc_gateway.generated.frames_pb2 import DroppedFrames, Frame, FrameAck
from streams.grpc_gateway.generated.frames_pb2_grpc import FrameServiceStub
from streams.grpc_gateway.limits import IMAGE_BYTES_KEY

LARGER_THAN_GATEWAY_TAKES = "larger_than_gateway_takes"
_TAKE_FRAMES, _TAKE_BYTES = 16, 8 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),
]
Noted = Callable[[Entry | None, FrameAck | None], Awaitable[None]]
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Progress:
    """Counts since the client was made, in frames; `dropped` frames were given up by the spool."""

    offered: int = 0
    dropped: int = 0
    sent: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    connected: bool = False
    trouble: str = ""

    @property
    def acknowledged(self) -> int:
        return self.accepted + self.duplicate + self.rejected


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


class EdgeClient:
    """Sends one spool to one gateway.

    Args:
        address: host:port of the gateway.
        spool: Open; stays the caller's to close.
        credentials: TLS; None speaks plain text.
        progressed: Called when a count changes, often; it must be quick.
    """

    def __init__(
        self,
        address: str,
        spool: Spool,
        *,
        pace: Pace = Pace(),
        credentials: grpc.ChannelCredentials | None = None,
        progressed: Callable[[Progress], None] | None = None,
    ) -> None:
        self._address = address
        self._spool = spool
        self._pace = pace
        self._credentials = credentials
        self._progressed = progressed or (lambda progress: None)
        self.progress = Progress()
        self._offered = asyncio.Event()
        self._removed = asyncio.Condition()

    async def offer(self, capture: Capture) -> Spooled:
        """Put a frame into the spool; waits only while a blocking spool is full.

        Raises:
            OSError: the spool's disk is full or broken.
        """
        while (spooled := await asyncio.to_thread(self._spool.offer, capture)) is None:
            async with self._removed:
                # Bounded, for room that came between the offer and the lock.
                await _within(0.2, self._removed.wait())
        self.progress.offered += 1
        self.progress.dropped += spooled.dropped_count
        self._progressed(self.progress)
        self._offered.set()
        return spooled

    async def drained(self) -> None:
        """Wait until the spool is empty: everything was acknowledged."""
        async with self._removed:
            while not await asyncio.to_thread(self._spool.is_empty):
                await _within(1.0, self._removed.wait())

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; what is not acknowledged by then stays in the spool.

        Raises:
            OSError: the spool's disk is broken.
        """
        attempt = 0
        while not stop.is_set():
            before = self.progress.acknowledged
            trouble = await self._stream_until(stop)
            self.progress.connected = False
            attempt = 0 if self.progress.acknowledged > before else attempt + 1
            if trouble and trouble != self.progress.trouble:
                _log.warning("the gateway cannot be used", address=self._address, trouble=trouble)
            self.progress.trouble = trouble
            self._progressed(self.progress)
            longest_s = min(self._pace.backoff_max_s, self._pace.backoff_first_s * 2 ** min(attempt, 16))
            await _within(random.uniform(longest_s / 10, longest_s), stop.wait())

    async def _stream_until(self, stop: asyncio.Event) -> str:
        """One connection; gives what ended it, empty when `stop` did."""
        async with self._channel() as channel:
            stopping = asyncio.create_task(stop.wait())
            streaming = asyncio.create_task(_Connection(channel, self._spool, self._pace, self._noted, self._offered).stream())
            try:
                await asyncio.wait({stopping, streaming}, return_when=asyncio.FIRST_COMPLETED)
                return await streaming if streaming.done() else ""
            finally:
                for task in (stopping, streaming):
                    task.cancel()
                await asyncio.gather(stopping, streaming, return_exceptions=True)

    def _channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        return grpc.aio.secure_channel(self._address, self._credentials, options=_OPTIONS)

    async def _noted(self, entry: Entry | None, ack: FrameAck | None) -> None:
        """Count what a connection did: connected (neither), sent (an entry), or acknowledged (both)."""
        frames = isinstance(entry, SpooledFrame)
        match ack and ack.status:
            case None if entry is None:
                self.progress.connected, self.progress.trouble = True, ""
            case None:
                self.progress.sent += frames
            case FrameAck.ACCEPTED:
                self.progress.accepted += frames
            case FrameAck.DUPLICATE:
                self.progress.duplicate += frames
            case _:
                self.progress.rejected += frames
        self._progressed(self.progress)
        if ack is not None:
            async with self._removed:
                self._removed.notify_all()


class _Connection:
    """One stream of one channel: a writer and a reader with the entries in flight between them."""

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


async def _within(seconds: float, waiting: "object") -> None:
    """Wait for something, but not for longer."""
    try:
        await asyncio.wait_for(waiting, seconds)  # type: ignore[arg-type]
    except TimeoutError:
        return
