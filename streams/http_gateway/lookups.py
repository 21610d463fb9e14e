"""Answers from the views: a task by its id, a device by its name.

Both may lie in any partition, so all are asked at once. A task goes submitted, accepted or rejected, and then done,
failed or skipped; it is never unknown once it was acknowledged: until the views show it, the mark of its submission
does. Nothing here writes.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.errors import ViewStoreUnavailableError
from streams.http_gateway.deadlines import within
from streams.idempotency import Submissions
from streams.ports import ViewStore

RESULTS_BY_FRAME = "results_by_frame"
FRAME_OUTCOMES = "frame_outcomes"
DEVICE_FRAMES = "device_frames"
DEVICE_RESULTS = "device_results"
_STATUS_OF_OUTCOME = {"read": "done", "nothing_read": "done", "failed": "failed", "skipped": "skipped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTask:
    """One task. `outcome` is the state of frame_outcomes, `result` a ResultDerived, as plain JSON values."""

    status: str
    device_id: str
    outcome: Mapping[str, Any] | None
    result: Mapping[str, Any] | None


class Lookups:
    """Reads views by key alone.

    Args:
        partitions: Number of partitions of the chain's topics, and so of the views.
        deadline_s: For each answer, in seconds.
    """

    def __init__(self, *, views: ViewStore, submissions: Submissions, partitions: int, deadline_s: float) -> None:
        self._views = views
        self._submissions = submissions
        self._partitions = partitions
        self._deadline_s = deadline_s

    async def task(self, task_id: str) -> FoundTask | None:
        """The task, or None when nobody knows it.

        Raises:
            ViewStoreUnavailableError: no answer in time.
        """
        try:
            task_id = str(UUID(task_id))
        except ValueError:
            return None
        async with within(self._deadline_s, ViewStoreUnavailableError):
            # The mark is asked first: a task that moves on in between is then found in the views.
            device_id = await self._submissions.submitted(task_id)
            counted, outcome = await asyncio.gather(self._find(RESULTS_BY_FRAME, task_id), self._find(FRAME_OUTCOMES, task_id))
        # A state of results_by_frame is the result and how often one was counted.
        if counted is not None and (result := counted["result"]) is not None:
            status = _STATUS_OF_OUTCOME.get(result["outcome"], "done")
            return FoundTask(status=status, device_id=result["frame"]["device_id"], outcome=outcome, result=result)
        if outcome is not None and outcome["frame"] is not None:
            return FoundTask(status=outcome["status"], device_id=outcome["frame"]["device_id"], outcome=outcome, result=None)
        if device_id is not None:
            return FoundTask(status="submitted", device_id=device_id, outcome=None, result=None)
        return None

    async def device(self, device_id: str) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
        """States of device_frames and device_results.

        Raises:
            ViewStoreUnavailableError: no answer in time.
        """
        async with within(self._deadline_s, ViewStoreUnavailableError):
            frames, results = await asyncio.gather(self._find(DEVICE_FRAMES, device_id), self._find(DEVICE_RESULTS, device_id))
        return frames, results

    async def _find(self, view: str, key: str) -> Mapping[str, Any] | None:
        stored = await asyncio.gather(*(self._views.load(view, p, (key,)) for p in range(self._partitions)))
        for one in stored:
            if key in one.states:
                state: Mapping[str, Any] = json.loads(one.states[key])
                return state
        return None
