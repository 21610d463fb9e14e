"""Group commit for small frames: those that arrive while a PUT is under way go together into the next one.

Guarantees: an answer comes only when the blob store holds the bytes; a frame waits for no company: while fewer than `at_once`
PUTs are under way the next begins at once, with what is there, the oldest first; a lone frame becomes an object of its own,
and so does one that is large. When a PUT fails, all that it carried fails, to be tried again by whoever put it.
`SealedBlobs.put_together`, which runs in a thread, acts next.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from schemas.errors import HindsightError
from schemas.types import BlobRef
from streams.ports import BlobScope, BlobStore
from streams.sealed_blobs import Part
from streams.segments import may_be_packed

PARTS_MOST, SEGMENT_BYTES_MAX, AT_ONCE = 1024, 2 * 1024 * 1024, 2
Stored = tuple[BlobRef | HindsightError, ...]


class Packing(BlobStore, Protocol):
    """A blob store that can put many blobs into one object."""

    def put_together(self, parts: Sequence[Part]) -> Stored: ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    part: Part
    stored: "asyncio.Future[BlobRef]"


class Packer:
    """Puts what devices send, from one event loop.

    Args:
        frame_bytes_max: What is longer is not packed.
        threads: Where the store's blocking calls run.
        at_once: Segments under way at once; fewer give larger ones.
    """

    def __init__(self, store: Packing, *, frame_bytes_max: int, threads: Executor | None = None, at_once: int = AT_ONCE) -> None:
        self._store = store
        self._frame_bytes_max = frame_bytes_max
        self._threads = threads
        self._at_once = at_once
        self._waiting: deque[_Waiting] = deque()
        self._under_way = 0
        self._is_called = False

    async def put(self, content: bytes, media_type: str, *, scope: BlobScope) -> BlobRef:
        """Store bytes, together with others or alone.

        Raises:
            BlobStoreUnavailableError: they are not stored.
        """
        loop = asyncio.get_running_loop()
        if len(content) > self._frame_bytes_max or not may_be_packed(content):
            return await loop.run_in_executor(self._threads, partial(self._store.put, content, media_type, scope=scope))
        stored: asyncio.Future[BlobRef] = loop.create_future()
        self._waiting.append(_Waiting(Part(content=content, media_type=media_type, scope=scope), stored))
        if not self._is_called:  # what arrives in this turn of the loop comes along
            self._is_called = True
            loop.call_soon(self._begin)
        return await stored

    def _begin(self) -> None:
        self._is_called = False
        while self._under_way < self._at_once and (batch := self._next()):
            self._under_way += 1
            storing = asyncio.get_running_loop().run_in_executor(self._threads, self._put, [one.part for one in batch])
            storing.add_done_callback(partial(self._done, batch))

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < PARTS_MOST:
            size += len(self._waiting[0].part.content)
            if batch and size > SEGMENT_BYTES_MAX:
                break
            one = self._waiting.popleft()
            if not one.stored.done():  # nobody waits any more
                batch.append(one)
        return batch

    def _put(self, parts: Sequence[Part]) -> Stored:
        if len(parts) > 1:
            return self._store.put_together(parts)
        (lone,) = parts
        return (self._store.put(lone.content, lone.media_type, scope=lone.scope),)

    def _done(self, batch: list[_Waiting], storing: "asyncio.Future[Stored]") -> None:
        self._under_way -= 1
        error = asyncio.CancelledError() if storing.cancelled() else storing.exception()
        found: Sequence[BlobRef | BaseException] = storing.result() if error is None else [error] * len(batch)
        for one, made in zip(batch, found, strict=True):
            if one.stored.done():
                continue
            if isinstance(made, BlobRef):
                one.stored.set_result(made)
            elif isinstance(made, asyncio.CancelledError):
                one.stored.cancel()
            else:
                one.stored.set_exception(made)
        self._begin()
