"""From what the inference server answered to the event that records it. Pure."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

from processors.step import Cause
from schemas import ids
from schemas.codec import body_of
from schemas.errors import ContractError, InferenceTimeoutError, ModelProcessDiedError, StepFailedError
from schemas.events import CandidateFailed, InferenceCompleted, InferenceFailed, InferenceSkipped
from schemas.plain import from_plain
from schemas.types import Candidate, FrameRef, Observation, RolloutArm, StepReport, Superseded

CANDIDATE_FAILED = "candidate_failed"
"""The side of a frame that the release in force read, because the one on trial could not."""
_ANSWER_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which release reads a frame, as the router knew it after `releases_offset` records of vision.releases.

    `pins` are the digests of the release by step: what may read in its name. `rollout` says on which side of a trial the
    frame is; a release on trial has an `instead`, which reads the frame when it cannot. `steps_by_model` are the steps that its
    models do, where a model does one.
    """

    release: str | None
    parameters: Mapping[str, float]
    pins: Mapping[str, str]
    releases_offset: int
    rollout: RolloutArm | None = None
    instead: "Route | None" = None
    steps_by_model: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What is known of the calls made for one frame; clock in microseconds since the epoch."""

    endpoint: str
    attempts: int
    started_at_us: int
    duration_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    route: Route
    called: Called
    result_json: bytes
    report_json: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    route: Route
    called: Called
    step: str | None
    error_class: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    route: Route
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadInstead:
    """What the release in force made of a frame that a release on trial could not read."""

    outcome: Answered | Failed | Skipped
    candidate: Failed


Outcome = Answered | Failed | Skipped


class Framed(Protocol):
    """An event about a frame that was accepted: the acceptance itself, or an older answer that is looked at again."""

    @property
    def frame(self) -> FrameRef: ...


def decide(
    pipeline: str, event: Framed, outcome: Outcome, cause: Cause
) -> InferenceCompleted | InferenceFailed | InferenceSkipped:
    """Exactly one event for each accepted frame. An answer that breaks the ensemble's contract is a failure, recorded."""
    match outcome:
        case Answered():
            try:
                return _completed(pipeline, event, outcome, cause)
            except ContractError as error:
                broken = Failed(
                    route=outcome.route, called=outcome.called, step=None, error_class="bad_answer", message=str(error)
                )
                return _failed(pipeline, event, broken, cause)
        case Failed():
            return _failed(pipeline, event, outcome, cause)
        case Skipped():
            return InferenceSkipped(
                event_id=ids.event_id(cause.position, "InferenceSkipped"),
                source=cause.position,
                frame=event.frame,
                pipeline=pipeline,
                release=outcome.route.release,
                releases_offset=outcome.route.releases_offset,
                reason=outcome.reason,
                skipped_at_us=cause.now_us,
                supersedes=_superseded(cause),
            )
        case _:
            assert_never(outcome)


def broken_contract(pipeline: str, event: Framed, outcome: Answered, cause: Cause) -> ContractError | None:
    """What is wrong with an answer, so that no event can hold it; None when nothing is."""
    try:
        _completed(pipeline, event, outcome, cause)
    except ContractError as error:
        return error
    return None


def candidate_failed(pipeline: str, event: Framed, candidate: Failed, cause: Cause) -> CandidateFailed:
    """That a release on trial could not read a frame. What read it instead is an event of its own."""
    route, called = candidate.route, candidate.called
    assert route.release is not None, "only a named release can have failed"
    assert route.rollout is not None, "a release on trial is one of a rollout"
    return CandidateFailed(
        event_id=ids.event_id(cause.position, "CandidateFailed"),
        source=cause.position,
        frame=event.frame,
        pipeline=pipeline,
        release=route.release,
        releases_offset=route.releases_offset,
        endpoint=called.endpoint,
        attempts=called.attempts,
        started_at_us=called.started_at_us,
        duration_us=called.duration_us,
        failed_step=candidate.step,
        error_class=candidate.error_class,
        error_message=candidate.message[:4000],
        rollout=route.rollout,
        incumbent_release=route.instead.release if route.instead is not None else None,
        incumbent_measures={},
    )


def kind_of(error: InferenceTimeoutError | StepFailedError | ModelProcessDiedError) -> str:
    """The error class that records it."""
    match error:
        case InferenceTimeoutError():
            return "timeout"
        case StepFailedError():
            return "step_failed"
        case ModelProcessDiedError():
            return "model_process_died"
        case _:
            assert_never(error)


def failed_step(route: Route, error: Exception) -> str | None:
    """The step that an error is of; None when neither it nor its model says."""
    step = getattr(error, "step", None)
    model = getattr(error, "model", None)
    return step if step is not None else route.steps_by_model.get(model) if model is not None else None


def strangers(pins: Mapping[str, str], report_json: bytes) -> Mapping[str, str]:
    """Digests by step, of the steps that answered with another content than is pinned.

    A step that reports no digest is believed. A report that breaks the contract is left to `decide`.
    """
    try:
        steps = _json(report_json, "REPORT").get("steps")
    except ContractError:
        return {}
    reported = [(s.get("step"), s.get("digest")) for s in steps if isinstance(s, dict)] if isinstance(steps, list) else []
    named = [(step, digest) for step, digest in reported if isinstance(step, str) and isinstance(digest, str)]
    return {step: digest for step, digest in named if pins.get(step, digest) != digest}


def _completed(pipeline: str, event: Framed, outcome: Answered, cause: Cause) -> InferenceCompleted:
    result, report = _json(outcome.result_json, "RESULT"), _json(outcome.report_json, "REPORT")
    try:
        width_px, height_px = int(result["image"]["width_px"]), int(result["image"]["height_px"])
        observations = tuple(from_plain(Observation, _numbers(o)) for o in result["observations"])
        candidates = tuple(from_plain(Candidate, _numbers(c)) for c in map(_candidate, result["candidates"]))
        steps = tuple(from_plain(StepReport, s) for s in report["steps"])
        runtime = {str(k): str(v) for k, v in sorted(report["runtime"].items())}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ContractError(f"the ensemble's answer breaks its contract: {error!r}") from error
    assert outcome.route.release is not None, "only a named release can have answered"
    completed = InferenceCompleted(
        event_id=ids.event_id(cause.position, "InferenceCompleted"),
        source=cause.position,
        frame=event.frame,
        pipeline=pipeline,
        release=outcome.route.release,
        releases_offset=outcome.route.releases_offset,
        endpoint=outcome.called.endpoint,
        attempts=outcome.called.attempts,
        started_at_us=outcome.called.started_at_us,
        duration_us=outcome.called.duration_us,
        width_px=width_px,
        height_px=height_px,
        parameters=outcome.route.parameters,
        runtime=runtime,
        steps=steps,
        observations=observations,
        candidates=candidates,
        supersedes=_superseded(cause),
        rollout=outcome.route.rollout,
    )
    # An answer that no event can hold breaks the contract too, and what is derived from it must fit as well.
    if (size := len(body_of(completed))) > _ANSWER_MAX_BYTES:
        raise ContractError(f"the ensemble's answer takes {size} bytes, and an event holds at most {_ANSWER_MAX_BYTES}")
    return completed


def _failed(pipeline: str, event: Framed, outcome: Failed, cause: Cause) -> InferenceFailed:
    assert outcome.route.release is not None, "only a named release can have failed"
    return InferenceFailed(
        event_id=ids.event_id(cause.position, "InferenceFailed"),
        source=cause.position,
        frame=event.frame,
        pipeline=pipeline,
        release=outcome.route.release,
        releases_offset=outcome.route.releases_offset,
        endpoint=outcome.called.endpoint,
        attempts=outcome.called.attempts,
        started_at_us=outcome.called.started_at_us,
        duration_us=outcome.called.duration_us,
        failed_step=outcome.step,
        error_class=outcome.error_class,
        error_message=outcome.message[:4000],
        supersedes=_superseded(cause),
        rollout=outcome.route.rollout,
    )


def _superseded(cause: Cause) -> Superseded | None:
    return None if cause.redriven is None else cause.redriven.supersedes


def _json(text: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"the ensemble's {what} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ContractError(f"the ensemble's {what} is a {type(found).__name__}, and must be an object")
    return found


def _numbers(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers that JSON may have made whole, as the floats that the event holds."""
    out = dict(plain)
    for name in ("confidence", "detection_score"):
        out[name] = _finite(out[name])
    out["polygon_px"] = [_finite(x) for x in out["polygon_px"]]
    if "measures" in out:
        out["measures"] = {str(k): _finite(v) for k, v in out["measures"].items()}
    return out


def _finite(number: Any) -> float:
    """A number as a float; views are JSON, which has no NaN and no infinity."""
    if not math.isfinite(found := float(number)):
        raise ValueError(f"{number} is not a finite number")
    return found


def _candidate(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A candidate is an observation with a stage and a reason; its index and measures are not kept."""
    return {k: v for k, v in plain.items() if k not in ("index", "measures")}
