"""What is told of a frame that was not read: headers of its dead letter, and the metrics of the steps."""

import json

from prometheus_client import REGISTRY

from processors.dead_letters import PREFIX, dead_letter
from processors.infer.core import Called, Failed, Route, decide
from processors.infer.step_metrics import count_failure, observe_steps
from schemas.errors import ContractError
from streams.records import Record
from tests.given import AT_US, accepted, cause

ROUTE = Route(release="r1", parameters={}, pins={}, releases_offset=4)


def told(step: str | None) -> dict[str, str]:
    """Headers of the dead letter of a frame that a step failed on, without what every dead letter has."""
    failed = Failed(
        route=ROUTE,
        called=Called(endpoint="one:8001", attempts=4, started_at_us=AT_US, duration_us=7),
        step=step,
        error_class="step_failed",
        message="boom",
    )
    outcome = decide("gate", accepted(), failed, cause(3, "vision.assessments"))
    record = Record(topic="vision.assessments", partition=0, offset=3, appended_at_ms=1, key=b"gate-1", value=b"x", headers=())
    letter = dead_letter(record, ContractError("step_failed: boom"), "infer", AT_US, outcome=outcome)
    return {k.removeprefix(PREFIX): v.decode() for k, v in letter.headers}


def test_the_dead_letter_of_a_failed_inference_says_which_input_made_which_step_fail_and_where() -> None:
    """So that `hindsight dlq show` needs nothing else to find the picture."""
    frame, found = accepted().frame, told("recognizer")
    wanted = {
        "failure": "step_failed",
        "step": "recognizer",
        "release": "r1",
        "endpoint": "one:8001",
        "attempts": "4",
        "frame_id": frame.frame_id,
        "blob_sha256": frame.blob.sha256,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert told(None)["step"] == ""


def test_steps_are_timed_from_what_the_answers_report() -> None:
    """By step, model and version; a report that breaks its contract is left to those who record it."""
    report = {"steps": [{"step": "look", "model": "m_9", "version": 3, "duration_us": 20_000}]}
    observe_steps(json.dumps(report).encode())
    for broken in (b"", b"[]", b'{"steps": 1}', b'{"steps": [{"step": "look"}]}', b'{"steps": [[]]}'):
        observe_steps(broken)
    labels = {"step": "look", "model": "m_9", "version": "3"}
    assert REGISTRY.get_sample_value("hindsight_step_seconds_sum", labels) == 0.02
    assert REGISTRY.get_sample_value("hindsight_step_seconds_count", labels) == 1


def test_failures_are_counted_by_step() -> None:
    """An empty step is one that is not known."""
    for step in ("look", "look", None):
        count_failure("r9", step, "timeout")
    counted = {
        step: REGISTRY.get_sample_value(
            "hindsight_step_failures_total", {"release": "r9", "step": step, "error_class": "timeout"}
        )
        for step in ("look", "")
    }
    assert counted == {"look": 2, "": 1}
