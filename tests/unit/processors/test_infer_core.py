"""infer: one recorded event for each answer, failure or skip; an answer that breaks the contract is a failure."""

import json
from typing import Any

import pytest

from processors.infer import core
from processors.infer.core import Answered, Called, Failed, Route, Skipped
from schemas import ids
from schemas.events import InferenceCompleted, InferenceFailed, InferenceSkipped
from schemas.types import Candidate, Observation, StepReport
from tests.given import AT_US, accepted, cause

ROUTE = Route(release="r1", parameters={"text_confidence": 0.5}, pins={"detection": "ab"}, releases_offset=4)
CALLED = Called(endpoint="one:8001", attempts=2, started_at_us=AT_US, duration_us=9)
OBSERVATION = {
    "index": 0,
    "kind": "text",
    "label": "A",
    "confidence": 1,
    "detection_score": 0.5,
    "polygon_px": [0, 0, 1, 0, 1, 1, 0, 1],
    "measures": {"orientation_deg": 0},
}
CANDIDATE = {**OBSERVATION, "reason": "text_confidence below 0.5", "stage": "recognizer"}
STEP = {"step": "detection", "model": "detection", "version": 3, "variant": "onnxruntime_cpu"}
RESULT = {"image": {"width_px": 32, "height_px": 24}, "observations": [OBSERVATION], "candidates": [CANDIDATE]}
REPORT = {"steps": [STEP], "runtime": {"triton": "2.51.0", "b": "2"}}


def answered(result: Any = RESULT, report: Any = REPORT) -> Answered:
    as_bytes = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in (result, report)]
    return Answered(route=ROUTE, called=CALLED, result_json=as_bytes[0], report_json=as_bytes[1])


def decide(outcome: core.Outcome) -> Any:
    return core.decide("gate", accepted(7), outcome, cause(3, "vision.assessments"))


def test_everything_that_the_ensemble_said_is_recorded() -> None:
    """Observations, candidates, steps and runtime stand in one InferenceCompleted, with the release and its parameters."""
    where = cause(3, "vision.assessments").position
    polygon = (0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0)
    seen = {"kind": "text", "label": "A", "confidence": 1.0, "detection_score": 0.5, "polygon_px": polygon}
    assert decide(answered()) == InferenceCompleted(
        event_id=ids.event_id(where, "InferenceCompleted"),
        source=where,
        frame=accepted(7).frame,
        pipeline="gate",
        release="r1",
        releases_offset=4,
        endpoint="one:8001",
        attempts=2,
        started_at_us=AT_US,
        duration_us=9,
        width_px=32,
        height_px=24,
        parameters={"text_confidence": 0.5},
        runtime={"b": "2", "triton": "2.51.0"},
        steps=(StepReport(step="detection", model="detection", version=3, variant="onnxruntime_cpu"),),
        observations=(Observation(index=0, measures={"orientation_deg": 0.0}, **seen),),  # type: ignore[arg-type]
        candidates=(Candidate(stage="recognizer", reason="text_confidence below 0.5", **seen),),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "outcome",
    [
        answered(b"not json"),
        answered(b"[]"),
        answered({}),
        answered(b"[" * 100_000),
        answered(report={"steps": [{"step": "x"}], "runtime": {}}),
        answered(report={"steps": [{**STEP, "extra": 1}], "runtime": {}}),
        answered({**RESULT, "observations": [{**OBSERVATION, "label": None}]}),
        answered({**RESULT, "observations": [{**OBSERVATION, "label": "\ud800"}]}),
        answered({**RESULT, "observations": [{**OBSERVATION, "index": 2**70}]}),
        answered({**RESULT, "observations": ["text"]}),
        answered({**RESULT, "observations": [{**OBSERVATION, "label": "x" * (5 << 20)}]}),
        answered({**RESULT, "image": {"width_px": float("inf"), "height_px": 1}}),
        answered({**RESULT, "observations": [{**OBSERVATION, "confidence": float("nan")}]}),
        answered(json.dumps(RESULT).replace("0.5", "1e999").encode()),
    ],
)
def test_an_answer_that_breaks_the_contract_is_a_recorded_failure(outcome: Answered) -> None:
    """Whatever bytes the ensemble gives, one event comes out, and an unfit answer says bad_answer."""
    event = decide(outcome)
    assert isinstance(event, InferenceFailed)
    assert (event.error_class, event.failed_step, event.release) == ("bad_answer", None, "r1")


def reported(*steps: Any) -> bytes:
    return json.dumps({"steps": steps, "runtime": {}}).encode()


def test_a_step_of_another_content_than_is_pinned_is_a_stranger() -> None:
    """The digest that answered stands by the step; what is as pinned, not pinned, or reports no digest does not."""
    report = reported(
        {"step": "detection", "digest": "ab"},
        {"step": "recognizer", "digest": "ef"},
        {"step": "classifier", "digest": None},
        {"step": "crop_and_resize"},
        {"step": "postprocess", "digest": "ff"},
    )
    pins = dict.fromkeys(("detection", "classifier", "crop_and_resize"), "ab") | {"recognizer": "cd", "absent": "ab"}
    assert core.strangers(pins, report) == {"recognizer": "ef"}
    assert core.strangers({}, report) == {}


def test_a_stranger_does_not_hide_behind_a_namesake() -> None:
    """A step that reports twice is a stranger if one of the two is."""
    strange, pinned = {"step": "detection", "digest": "ef"}, {"step": "detection", "digest": "ab"}
    for steps in ((strange, pinned), (pinned, strange)):
        assert core.strangers({"detection": "ab"}, reported(*steps)) == {"detection": "ef"}


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"steps": 3}',
        reported(3, None, [], {"step": []}, {"digest": "ef"}, {"step": "detection", "digest": 3}),
    ],
)
def test_a_report_that_breaks_the_contract_names_no_stranger(report: bytes) -> None:
    """Whatever it holds, it is recorded as a bad answer and makes nobody wait."""
    assert core.strangers({"detection": "ab"}, report) == {}


def test_a_failed_step_is_named() -> None:
    """The last failure's step and message stand in InferenceFailed, cut to 4000 signs."""
    event = decide(Failed(route=ROUTE, called=CALLED, step="recognizer", error_class="step_failed", message="x" * 5000))
    assert isinstance(event, InferenceFailed)
    assert (event.failed_step, event.error_class, len(event.error_message)) == ("recognizer", "step_failed", 4000)


def test_a_frame_that_nobody_reads_is_skipped_with_the_reason() -> None:
    """Without a release in force the frame gets an InferenceSkipped that names why."""
    event = decide(Skipped(route=Route(release=None, parameters={}, pins={}, releases_offset=0), reason="no_release_in_force"))
    assert isinstance(event, InferenceSkipped)
    assert (event.reason, event.release) == ("no_release_in_force", None)
