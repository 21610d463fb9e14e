"""A camera with the real spool, whose disk fills up, that dies and goes on, in front of the real checks of the gateway's door.

What stands between them is played: a stream that loses answers and breaks off, and a gateway that publishes in the order of
receipt. Once the world healed, everything that the spool ever took must be on the log, as a frame or as told to be given up.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import LogUnavailableError
from schemas.types import FrameId
from streams.edge.connection import _message
from streams.edge.entries import Capture, Entry, SpooledDrop, SpooledFrame
from streams.edge.spool import Spool
from streams.grpc_gateway.checks import Admitted, Notice, check
from streams.grpc_gateway.limits import GatewayLimits
from streams.publishing import FramePublisher
from streams.records import Clock
from tests.simulation.faults import Weather
from tests.simulation.shape import Shape, dice

DEVICE, SESSION = "edge-1", "one-spool"
_LIMITS = GatewayLimits()
_SPOOL_BYTES = 12_000  # four or five pictures
_WHOLE_DISK_PAGES = 2**30


@dataclass(slots=True)
class Edge:
    """One device. `offered` is how many numbers its spool gave out.

    Plant: `forgets_unanswered` removes what was sent before it is acknowledged.
    """

    seed: int
    shape: Shape
    publisher: FramePublisher
    clock: Clock
    weather: Weather
    pictures: Iterator[bytes]
    plant: str = ""
    offered: int = 0
    full: int = 0
    published: set[FrameId] = field(default_factory=set)

    async def run(self, during_s: float, healed: asyncio.Event) -> None:
        """Take pictures for a while, then send what is left once all is well; the disk is full now and then."""
        rng = dice(self.seed, "edge")
        with tempfile.TemporaryDirectory() as folder:
            spool = self._opened(Path(folder))
            sending = asyncio.create_task(self._send(spool))
            for _ in range(2 * self.shape.frames):
                await asyncio.sleep(rng.random() * 2 * during_s / (2 * self.shape.frames))
                self._fill(spool, full=self.shape.has("disk") and rng.random() < 0.4)
                self._take_a_picture(spool)
                if self.shape.has("death") and rng.random() < 0.1:
                    await _ended(sending)
                    spool.close()
                    spool = self._opened(Path(folder))
                    sending = asyncio.create_task(self._send(spool))
            await healed.wait()
            self._fill(spool, full=False)
            while not spool.is_empty():  # noqa: ASYNC110  # virtual time
                await asyncio.sleep(1)
            await _ended(sending)
            spool.close()

    def _opened(self, folder: Path) -> Spool:
        return Spool(folder, device_id=DEVICE, limit_bytes=_SPOOL_BYTES, drop="oldest", session_id=SESSION)

    def _fill(self, spool: Spool, *, full: bool) -> None:
        """As SQLite is told by a full disk: no page more than there are."""
        database: sqlite3.Connection = spool._tables._db
        pages = database.execute("PRAGMA page_count").fetchone()[0] if full else _WHOLE_DISK_PAGES
        database.execute(f"PRAGMA max_page_count = {pages}")

    def _take_a_picture(self, spool: Spool) -> None:
        try:
            spool.offer(Capture(image=next(self.pictures), captured_at_us=self.clock(), media_type="image/png"))
        except OSError:
            self.full += 1
        self.offered = max(self.offered, spool.next_sequence)

    async def _send(self, spool: Spool) -> None:
        """Connect again and again; each time from the oldest that is not acknowledged."""
        while True:
            after = -1
            try:
                while entries := spool.take(after, frames=3, size_bytes=9000):
                    for entry in entries:
                        after = entry.last_sequence if isinstance(entry, SpooledDrop) else entry.sequence
                        if self.plant == "forgets_unanswered":
                            spool.remove((entry.sequence,))
                        await self._carry(spool, entry)
                        if not self.weather.strikes(self.weather.trouble):
                            spool.remove((entry.sequence,))
            except (OSError, LogUnavailableError):  # a full disk, a broken stream, a broker that is away
                pass
            await asyncio.sleep(0.1 + self.weather.rng.random())

    async def _carry(self, spool: Spool, entry: Entry) -> None:
        """To the door and onto the log; the stream may break before or after."""
        await self.weather.delay()
        if self.weather.strikes(self.weather.trouble):
            raise LogUnavailableError("the stream broke off")
        match check(_message(spool, entry), _LIMITS):
            case Admitted(frame=frame):
                ref = await self.publisher.store(frame)
                self.published.add(ref.frame_id)
                await self.publisher.append(ref)
            case Notice() as told:
                await self.publisher.publish_dropped(
                    device_id=told.device_id,
                    session_id=told.session_id,
                    first_sequence=told.first_sequence,
                    last_sequence=told.last_sequence,
                    frames_count=told.frames_count,
                    reason=told.reason,
                )
            case refused:
                raise AssertionError(f"a picture or a notice was refused: {refused}, {isinstance(entry, SpooledFrame)}")


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and task.exception() is not None:
        raise AssertionError("sending stopped") from task.exception()
