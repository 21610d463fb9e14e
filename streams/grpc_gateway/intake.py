"""From a checked message to an outcome: one ordered window for each session, a memory of outcomes, patience in between.

Guarantees, for each session: what is published goes onto the log in the order of receipt; a sequence whose outcome is
remembered or on its way is never published again; while the blob store or the broker is away, nothing is given up, and
no more than a window of frames and the byte budget is held. An outcome exists only once broker and blob store hold what
it speaks of. The stream, which waits for outcomes, acts next.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import stamina
import structlog

from schemas.errors import ContractError, TransientError
from streams.grpc_gateway import metrics
from streams.ordered import OrderedWindow
from streams.records import Position

T = TypeVar("T")
Key = int | tuple[int, int]
_WAIT_FIRST_S, _WAIT_MAX_S, _JITTER_S = 0.1, 3.0, 0.5
_log = structlog.get_logger(__name__)


class Status(Enum):
    """What became of a message."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one message; `position` is where its event lies, if it has one."""

    status: Status
    position: Position | None = None
    reason: str = ""
    detail: str = ""


Append = Callable[[], Awaitable[Outcome]]
Prepare = Callable[[], Awaitable[Append]]


@dataclass(frozen=True, slots=True)
class _Landing:
    future: "asyncio.Future[Outcome]"
    append: Append


class ByteBudget:
    """Bytes that may be held at once; whoever waits is served in turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> int:
        """Take up to `size` bytes, waiting while they are not there; gives what must be released."""
        size = min(size, self._limit)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(size)
            else:
                self._waiting.remove((size, turn))
                self._serve()
            raise
        return size

    def release(self, size: int) -> None:
        self._free += size
        metrics.BYTES.dec(size)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                metrics.BYTES.inc(size)
                turn.set_result(None)


class SessionIntake:
    """One session's window and memory.

    Args:
        window_frames: Messages between receipt and outcome.
        remembered: Outcomes kept to answer repeats.
    """

    def __init__(self, budget: ByteBudget, *, window_frames: int, remembered: int) -> None:
        self._budget = budget
        self._remembered = remembered
        self._outcomes: OrderedDict[Key, asyncio.Future[Outcome]] = OrderedDict()
        self._window: OrderedWindow[_Landing] = OrderedWindow(window_frames, self._land)
        self.unfinished = 0

    async def take(self, key: Key, size_bytes: int, prepare: Prepare) -> tuple["asyncio.Future[Outcome]", bool]:
        """Take a message in, waiting while the window or the byte budget is full.

        Args:
            key: The frame's sequence, or a notice's first and last.
            prepare: What may run beside other messages; gives what must run in their order.
        Returns:
            The outcome to come, and whether the message was taken in before.
        """
        if key in self._outcomes:
            return self._outcomes[key], True
        held = await self._budget.acquire(size_bytes)
        if key in self._outcomes:  # another stream of this session was quicker
            self._budget.release(held)
            return self._outcomes[key], True
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: self._finished(key, done))
        self._outcomes[key] = future
        self.unfinished += 1
        metrics.WINDOW.inc()
        try:
            await self._window.submit(lambda: self._prepared(future, prepare, held))
        except BaseException:
            self._budget.release(held)
            future.cancel()
            raise
        return future, False

    async def close(self) -> None:
        """Give up what is in flight; it was not acknowledged."""
        await self._window.cancel()
        for future in [f for f in self._outcomes.values() if not f.done()]:
            future.cancel()

    async def _prepared(self, future: "asyncio.Future[Outcome]", prepare: Prepare, held: int) -> _Landing:
        try:
            return _Landing(future, await patiently(prepare))
        except Exception as error:
            return _Landing(future, _raising(error))
        finally:
            self._budget.release(held)

    async def _land(self, landing: _Landing) -> None:
        """The ordered half. Nothing that goes wrong with one message may stop the window for those behind it."""
        try:
            outcome = await patiently(landing.append)
        except ContractError as error:
            outcome = Outcome(status=Status.REJECTED, reason="not_publishable", detail=str(error))
        except Exception as error:
            _log.exception("a message could not be published")
            if not landing.future.done():
                landing.future.set_exception(error)
            return
        if not landing.future.done():
            landing.future.set_result(outcome)

    def _finished(self, key: Key, future: "asyncio.Future[Outcome]") -> None:
        self.unfinished -= 1
        metrics.WINDOW.dec()
        if future.cancelled() or future.exception() is not None:
            self._outcomes.pop(key, None)
        while len(self._outcomes) > self._remembered:
            oldest = next(iter(self._outcomes))
            if not self._outcomes[oldest].done():
                break
            del self._outcomes[oldest]


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do it again, with backoff and jitter, for as long as what it needs is away."""
    with suppress(TransientError):  # nearly always the first try is all, and what follows would cost more than it
        return await work()
    async for attempt in stamina.retry_context(
        on=TransientError, attempts=None, timeout=None, wait_initial=_WAIT_FIRST_S, wait_max=_WAIT_MAX_S, wait_jitter=_JITTER_S
    ):
        with attempt:
            return await work()
    raise AssertionError("unlimited attempts never end")


def _raising(error: Exception) -> Append:
    async def append() -> Outcome:
        raise error

    return append
