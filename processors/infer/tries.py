"""What a frame has been through: tries that failed, and deaths of processes and servers in its calls. Kept while it waits, too.

A process or a server that dies fails every call that is in it, and one frame of those may be why. So each of them is tried again
by itself: nothing else of this worker is in a call meanwhile, and a death then is held against the frame. The first death, in
company, is held against nobody. Other workers' frames may be at the same server; that they are to blame several times in a row
for one frame's lone calls is what is taken into account.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from schemas.errors import ModelProcessDiedError, ServerLostError

_KEPT = 1000
Death = ModelProcessDiedError | ServerLostError


@dataclass(slots=True)
class _Past:
    attempts: int = 0
    deaths: int = 0
    lone_deaths: int = 0
    last: Death | None = None
    last_release: str = ""


class Tries:
    """Use it inside one event loop. It remembers for as long as the process lives, and bounds what it keeps."""

    def __init__(self) -> None:
        self._past: OrderedDict[str, _Past] = OrderedDict()
        self._one_alone = asyncio.Lock()
        self._open, self._idle = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._idle.set()
        self._calls = 0

    @asynccontextmanager
    async def call(self, cause_id: str) -> AsyncIterator[bool]:
        """Around a call: alone, for a frame that saw a death; gives whether it is."""
        if self.last_death(cause_id) is None:
            await self._open.wait()
            self._calls += 1
            self._idle.clear()
            try:
                yield False
            finally:
                self._calls -= 1
                if self._calls == 0:
                    self._idle.set()
            return
        async with self._one_alone:
            self._open.clear()
            try:
                await self._idle.wait()
                yield True
            finally:
                self._open.set()

    def attempts(self, cause_id: str) -> int:
        """Tries of the frame that ended in a failure of its own."""
        return self._past[cause_id].attempts if cause_id in self._past else 0

    def failed(self, cause_id: str) -> int:
        """One more; gives how many."""
        past = self._of(cause_id)
        past.attempts += 1
        return past.attempts

    def deaths(self, cause_id: str) -> int:
        """Deaths in its calls, in company or alone."""
        return self._past[cause_id].deaths if cause_id in self._past else 0

    def last_death(self, cause_id: str) -> Death | None:
        """What was seen last."""
        return self._past[cause_id].last if cause_id in self._past else None

    def last_died_under(self, cause_id: str) -> str:
        """The release that was asked when something died last; empty when nothing did."""
        return self._past[cause_id].last_release if cause_id in self._past else ""

    def saw_death(self, cause_id: str, release: str, error: Death, *, alone: bool) -> int:
        """Something died in this frame's call; gives how often that was when it was alone."""
        past = self._of(cause_id)
        past.deaths, past.last, past.last_release = past.deaths + 1, error, release
        past.lone_deaths += alone
        return past.lone_deaths

    def forget(self, cause_id: str) -> None:
        """The frame has an outcome."""
        self._past.pop(cause_id, None)

    def _of(self, cause_id: str) -> _Past:
        past = self._past.setdefault(cause_id, _Past())
        if len(self._past) > _KEPT:
            self._past.popitem(last=False)
        return past
