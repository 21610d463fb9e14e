"""The shadow processor: a release on trial reads what the release in force has read, and nobody's results wait for it.

Reads vision.inferences, writes vision.candidates; `sampling` acts next. A frame is tried once. While the models are away
its partition waits here, and nowhere else; what has waited too long, or belongs to a trial that is over, is passed over.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from processors.infer import core as infer
from processors.rollout.measuring import disagreement, measures_of
from processors.rules.contract import Rules
from processors.step import NOTHING, Cause, NoState, Prepared
from processors.tracing import calling, current_traceparent
from schemas import ids
from schemas.catalogue import INFERENCES
from schemas.errors import ContractError, InferenceTimeoutError, InferenceUnavailableError, ModelProcessDiedError, StepFailedError
from schemas.events import CandidateCompleted, CandidateFailed, InferenceCompleted, InferenceFailed, InferenceSkipped
from streams.ports import BlobStore, Inference
from streams.records import Clock

log = structlog.get_logger()
_SHADOW = "shadow"
_LATE_US = 60_000_000

_COMMON = (
    "frame",
    "pipeline",
    "release",
    "releases_offset",
    "endpoint",
    "attempts",
    "started_at_us",
    "duration_us",
    "rollout",
)
_SEEN = ("width_px", "height_px", "parameters", "runtime", "steps", "observations", "candidates")
CandidateRoute = Callable[[str], infer.Route | None]


class ShadowStep:
    """Reads vision.inferences. It keeps no state.

    Args:
        route: The release on trial, by the id of its rollout; None when that is over.
        concurrency: Most calls in flight at once, over all partitions.
    """

    name = "shadow"
    topic = INFERENCES
    state_type = NoState
    initial = NoState()

    def __init__(
        self, *, rules: Rules, route: CandidateRoute, inference: Inference, blobs: BlobStore, clock: Clock, concurrency: int
    ) -> None:
        self._rules = rules
        self._route = route
        self._inference = inference
        self._blobs = blobs
        self._clock = clock
        self._calls = asyncio.Semaphore(concurrency)

    def key(self, event: Any) -> str | None:
        return None

    async def prepare(self, event: Any, cause: Cause) -> Prepared:
        if not isinstance(event, (InferenceCompleted, InferenceFailed)) or event.supersedes is not None:
            return NOTHING
        if event.rollout is None or event.rollout.kind != _SHADOW:
            return NOTHING
        route = self._route(event.rollout.rollout_id)
        if route is None or self._clock() - event.started_at_us > _LATE_US:
            return NOTHING
        async with self._calls:
            return Prepared(answer=await self._asked(event, route, cause))

    def decide(self, state: NoState, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        if answer is None:
            return ()
        read = infer.decide(event.pipeline, event, answer, cause)
        assert not isinstance(read, InferenceSkipped), "an answer or a failure skips nothing"
        return (candidate_of(read, event, self._rules, cause),)

    def fold(self, state: NoState, event: Any) -> NoState:
        return state

    async def _asked(self, event: InferenceCompleted | InferenceFailed, route: infer.Route, cause: Cause) -> infer.Outcome | None:
        assert route.release is not None, "a release on trial has a name"
        started_us = self._clock()
        try:
            image = await asyncio.to_thread(self._blobs.get, event.frame.blob)
            with calling("triton.infer", release=route.release):
                answer = await self._inference.infer(
                    route.release, image, route.parameters, traceparent=current_traceparent(cause.traceparent)
                )
        except InferenceUnavailableError:
            raise
        except (InferenceTimeoutError, StepFailedError, ModelProcessDiedError) as error:
            return self._failed(route, started_us, infer.failed_step(route, error), infer.kind_of(error), error)
        except ContractError as error:  # the image is gone or changed: that says nothing of the release
            log.info("not shadowed", frame=event.frame.frame_id, error=str(error))
            return None
        if strange := infer.strangers(route.pins, answer.report_json):
            raise InferenceUnavailableError(f"{route.release} answers with {', '.join(sorted(strange))} that it does not pin")
        called = infer.Called(
            endpoint=answer.endpoint, attempts=1, started_at_us=started_us, duration_us=self._clock() - started_us
        )
        return infer.Answered(route=route, called=called, result_json=answer.result_json, report_json=answer.report_json)

    def _failed(self, route: infer.Route, started_us: int, step: str | None, kind: str, error: Exception) -> infer.Failed:
        called = infer.Called(
            endpoint=getattr(error, "endpoint", ""), attempts=1, started_at_us=started_us, duration_us=self._clock() - started_us
        )
        return infer.Failed(route=route, called=called, step=step, error_class=kind, message=str(error) or repr(error))


def candidate_of(
    read: InferenceCompleted | InferenceFailed, beside: InferenceCompleted | InferenceFailed, rules: Rules, cause: Cause
) -> CandidateCompleted | CandidateFailed:
    """What a release on trial made of a frame, with what the release in force made of it."""
    common: dict[str, Any] = {name: getattr(read, name) for name in _COMMON}
    common |= {"source": cause.position, "incumbent_release": beside.release}
    common["incumbent_measures"] = measures_of(rules, beside)
    if isinstance(read, InferenceFailed):
        told = {name: getattr(read, name) for name in ("failed_step", "error_class", "error_message")}
        return CandidateFailed(event_id=ids.event_id(cause.position, "CandidateFailed"), **common, **told)
    seen = {name: getattr(read, name) for name in _SEEN}
    measures = {**measures_of(rules, read), **disagreement(rules, read, beside)}
    return CandidateCompleted(event_id=ids.event_id(cause.position, "CandidateCompleted"), **common, **seen, measures=measures)
