"""Which step kept a call that took too long, from what the inference server counts for each step.

Guarantees: nothing is guessed: where the counts leave it open, no step is named. Asking costs the server one question every few
seconds while calls go on, and one for each call that was too late, which waits a second for the answer at most. Whatever comes of
asking, the timeout is told.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

import structlog

from schemas.errors import InferenceTimeoutError
from streams.ports import Answer, Inference, StepTime, StepTimes

log = structlog.get_logger()
_ASK_S = 1.0
_LOOKS_KEPT = 16
Look = tuple[StepTime, ...]


class NamingSlowSteps:
    """An `Inference` whose timeouts name the model that kept them. Use it inside one event loop.

    Args:
        servers: Those that the inner one calls.
        timeout_s: Deadline of its calls.
    """

    def __init__(self, inner: Inference, servers: Sequence[StepTimes], *, timeout_s: float) -> None:
        self._inner = inner
        self._servers = {server.endpoint: server for server in servers}
        self._every_s = timeout_s / 4
        self._looks: dict[tuple[str, str], deque[tuple[float, Look]]] = {}
        self._looking: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        began_s = asyncio.get_running_loop().time()
        self._look_if_due(release, began_s)
        try:
            return await self._inner.infer(release, image, parameters, traceparent=traceparent)
        except InferenceTimeoutError as error:
            if error.model is None and error.endpoint in self._servers:
                error.model = await self._asked_slow(error.endpoint, release, began_s)
            raise

    async def _asked_slow(self, endpoint: str, release: str, began_s: float) -> str | None:
        try:
            async with asyncio.timeout(_ASK_S):
                return await self._slow(endpoint, release, began_s)
        except Exception as error:  # what a server counts is its own affair, and the frame has to have its outcome
            log.warning("slow step not found", endpoint=endpoint, release=release, error=repr(error))
            return None

    def _look_if_due(self, release: str, now_s: float) -> None:
        for endpoint in self._servers:
            place = (endpoint, release)
            looks = self._looks.get(place)
            is_due = not looks or now_s - looks[-1][0] >= self._every_s
            if is_due and place not in self._looking:
                self._looking[place] = asyncio.create_task(self._look(place))

    async def _look(self, place: tuple[str, str]) -> None:
        try:
            look = await self._servers[place[0]].step_times(place[1])
            looks = self._looks.setdefault(place, deque(maxlen=_LOOKS_KEPT))
            looks.append((asyncio.get_running_loop().time(), look))
        except Exception as error:
            log.debug("steps not looked at", endpoint=place[0], release=place[1], error=repr(error))
            self._looks.pop(place, None)
        finally:
            self._looking.pop(place, None)

    async def _slow(self, endpoint: str, release: str, began_s: float) -> str | None:
        """By the newest look that ended before the call began."""
        looks = [look for at_s, look in self._looks.get((endpoint, release), ()) if at_s <= began_s]
        return slow_model(looks[-1], await self._servers[endpoint].step_times(release)) if looks else None


def slow_model(before: Look, after: Look) -> str | None:
    """The model of the step in which more calls are stuck than in any other; else None.

    A step is entered by what came through the one before it, and left by what came through or failed. What enters the first one
    nobody counts: it keeps the call where nothing at all left it, and no other step keeps any.

    Args:
        before, after: The models in the order of the steps, then the ensemble; counted before a call began, and after it was
            given up.
    """
    if [s.model for s in before] != [s.model for s in after] or len(before) < 2:
        return None
    through = [a.through_count - b.through_count for b, a in zip(before, after, strict=True)]
    failed = [a.failed_count - b.failed_count for b, a in zip(before, after, strict=True)]
    busy = [a.busy_ns - b.busy_ns for b, a in zip(before, after, strict=True)]
    if min(*through, *failed, *busy) < 0:
        return None  # a model was loaded anew in between, and counts from 0 again
    models = [s.model for s in after[:-1]]
    stuck = {models[k]: through[k - 1] - through[k] - failed[k] for k in range(1, len(models))}
    most = sorted(stuck.values(), reverse=True)
    # Only where no other ensemble uses the same models do the counts of neighbours say who is in between.
    if through[-2] == through[-1] and most[:1] > [0] and most[0] not in most[1:]:
        return max(stuck, key=lambda model: stuck[model])
    return models[0] if through[0] + failed[0] == 0 and max(most, default=0) <= 0 else None
