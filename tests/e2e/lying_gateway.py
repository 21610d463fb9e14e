"""A gateway with a planted bug: it says that the broker has a frame, and gives it to the broker some seconds later.

`test_chaos` runs it to prove that the verdict finds frames that were acknowledged and lost. Started like `hindsight gateway`.
"""

import asyncio

from schemas.types import FrameRef
from streams.publishing import FramePublisher
from streams.records import Position
from topology.cli import main

_LATE_S = 3.0
_append = FramePublisher.append
_later: set["asyncio.Task[Position]"] = set()


async def _answers_first(self: FramePublisher, frame: FrameRef, *, traceparent: str = "") -> Position:
    async def append() -> Position:
        await asyncio.sleep(_LATE_S)
        return await _append(self, frame, traceparent=traceparent)

    task = asyncio.create_task(append())
    _later.add(task)
    task.add_done_callback(_later.discard)
    return Position(topic="vision.frames", partition=0, offset=0)


if __name__ == "__main__":
    FramePublisher.append = _answers_first  # type: ignore[method-assign]
    main()
