"""Many at work, one line out: runs up to `size` pieces of work at once and hands their results on in the order they came.

The gateways use it to store blobs side by side and append in the device's order; the infer processor uses it to keep
several frames in the inference server and emit in the partition's order.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class OrderedWindow(Generic[T]):
    """A bounded window of work in flight. One failure stops the window; what was handed on before stays handed on.

    Args:
        size: Most pieces of work in flight, finished ones that wait for an earlier one included.
        emit: Called with each result, in order, one at a time; awaited before the next.
    """

    def __init__(self, size: int, emit: Callable[[T], Awaitable[None]]) -> None:
        self._emit = emit
        self._room = asyncio.Semaphore(size)
        self._queue: asyncio.Queue[asyncio.Task[T] | None] = asyncio.Queue()
        self._emitting = asyncio.create_task(self._run())
        self.in_flight = 0

    async def submit(self, work: Callable[[], Awaitable[T]]) -> None:
        """Start a piece of work, waiting while the window is full.

        Raises:
            Exception: whatever an earlier piece of work or `emit` raised.
        """
        if self._room.locked() or self._emitting.done():
            await self._wait_for_room()
        else:
            await self._room.acquire()  # there is room: this does not wait
        self.in_flight += 1
        self._queue.put_nowait(asyncio.ensure_future(_as_coroutine(work)))

    async def drain(self) -> None:
        """Wait until everything submitted was handed on; the window takes no more."""
        self._queue.put_nowait(None)
        await self._emitting

    async def cancel(self) -> None:
        """Give up what is in flight."""
        self._emitting.cancel()
        while not self._queue.empty():
            task = self._queue.get_nowait()
            if task is not None:
                task.cancel()
        await asyncio.gather(self._emitting, return_exceptions=True)

    async def _wait_for_room(self) -> None:
        room = asyncio.create_task(self._room.acquire())
        try:
            await asyncio.wait({room, self._emitting}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._give_back(room)
            raise
        if self._emitting.done():
            self._give_back(room)
            self._emitting.result()

    def _give_back(self, room: "asyncio.Task[bool]") -> None:
        """Undo a request for room, whether it was granted meanwhile or not."""
        if not room.cancel():
            self._room.release()

    async def _run(self) -> None:
        while (task := await self._queue.get()) is not None:
            try:
                await self._emit(await task)
            except BaseException:
                task.cancel()
                raise
            self.in_flight -= 1
            self._room.release()


async def _as_coroutine(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
