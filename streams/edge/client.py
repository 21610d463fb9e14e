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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import structlog

from streams.edge.connection import Connection, Pace
from streams.edge.entries import Capture, Entry, Spooled, SpooledFrame
from streams.edge.spool import Spool
from streams.grpc_gateway.generated.frames_pb2 import FrameAck

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),
]
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
            self.progress.trouble = trouble or self.progress.trouble
            self._progressed(self.progress)
            longest_s = min(self._pace.backoff_max_s, self._pace.backoff_first_s * 2 ** min(attempt, 16))
            await _within(random.uniform(longest_s / 10, longest_s), stop.wait())

    async def _stream_until(self, stop: asyncio.Event) -> str:
        """One connection; gives what ended it, empty when `stop` did."""
        async with self._channel() as channel:
            stopping = asyncio.create_task(stop.wait())
            streaming = asyncio.create_task(Connection(channel, self._spool, self._pace, self._noted, self._offered).stream())
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


async def _within(seconds: float, waiting: Awaitable[object]) -> None:
    """Wait for something, but not for longer."""
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return
