"""Frames in whose calls model processes died, so that a frame that kills them does not do so for ever.

A process that dies fails every call that is in it, and one frame of those may be why. So each of them is tried again by
itself: nobody else's frame that saw a death is in a call meanwhile, and what kills the process then is the frame.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.errors import ModelProcessDiedError

_KEPT = 1000


class Deaths:
    """Use it inside one event loop. It remembers for as long as the process lives, and bounds what it keeps."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[int, ModelProcessDiedError]] = OrderedDict()
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def carefully(self, cause_id: str) -> AsyncIterator[None]:
        """Around a call: alone, for a frame that saw a death."""
        if cause_id not in self._seen:
            yield
            return
        async with self._alone:
            yield

    def count(self, cause_id: str) -> int:
        return self._seen[cause_id][0] if cause_id in self._seen else 0

    def last(self, cause_id: str) -> ModelProcessDiedError | None:
        """What was seen last."""
        return self._seen[cause_id][1] if cause_id in self._seen else None

    def saw(self, cause_id: str, error: ModelProcessDiedError) -> int:
        """A process died in this frame's call; gives how many have."""
        self._seen[cause_id] = (self.count(cause_id) + 1, error)
        if len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return self.count(cause_id)

    def forget(self, cause_id: str) -> None:
        """The frame has an outcome."""
        self._seen.pop(cause_id, None)
