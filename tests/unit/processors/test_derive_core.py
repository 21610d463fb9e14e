"""derive: one result a frame, votes of a passage, corrections, and alerts raised once and cleared once."""

from dataclasses import replace
from typing import Any

import pytest

from processors.derive import core
from processors.rules import container_codes as rules
from schemas import ids
from schemas.events import AlertCleared, AlertRaised, InferenceFailed, InferenceSkipped, ResultCorrected, ResultDerived
from schemas.plain import canonical_json
from schemas.types import EventId
from tests.given import AT_US, at, cause, completed, folded, frame

VALID, OTHER, WRONG = "CSQU3054383", "MSKU0000006", "MSKU0000001"


def after(*events: Any) -> core.DevicePassages:
    return folded(lambda s, e: core.fold(rules, s, e), core.INITIAL, events)  # type: ignore[no-any-return]


def decided(events: tuple[Any, ...], event: Any, offset: int = 9) -> tuple[Any, ...]:
    return core.decide(rules, after(*events), event, cause(offset, "vision.inferences"))


def failed(sequence: int) -> InferenceFailed:
    where = cause(sequence, "vision.assessments").position
    return InferenceFailed(
        event_id=EventId(f"failed-{sequence}"),
        source=where,
        frame=frame(sequence, passage="p"),
        pipeline="gate",
        release="r1",
        releases_offset=1,
        endpoint="",
        attempts=4,
        started_at_us=AT_US,
        duration_us=1,
        failed_step="recognizer",
        error_class="step_failed",
        error_message="no",
    )


def skipped(sequence: int) -> InferenceSkipped:
    where = cause(sequence, "vision.assessments").position
    return InferenceSkipped(
        event_id=EventId("skipped"),
        source=where,
        frame=frame(sequence),
        pipeline="gate",
        releases_offset=0,
        reason="no_release_in_force",
        skipped_at_us=AT_US,
    )


def kinds(events: tuple[Any, ...]) -> list[str]:
    return [type(e).__name__ for e in events]


def test_one_frame_gives_one_result_with_its_readings() -> None:
    """A frame that reads a valid code gives exactly one ResultDerived, with the passage's first conclusion."""
    (result,) = decided((), completed(0, VALID, "MAX GROSS"))
    where = cause(9, "vision.inferences").position
    assert (result.event_id, result.source) == (ids.event_id(where, "ResultDerived"), where)
    assert (result.outcome, result.rules, result.inference_id) == ("read", "container_codes@1", "inference-0")
    assert [(r.kind, r.label, r.valid) for r in result.readings] == [
        ("container_code", VALID, True),
        ("text", "MAX GROSS", None),
    ]
    said = result.conclusion
    assert (said.label, said.valid, said.votes_for, said.votes_total, said.frames_count) == (VALID, True, 1, 1, 1)


@pytest.mark.parametrize("confidence", [1.7e308, float("nan"), float("inf"), float("-inf")])
def test_a_vote_that_no_number_holds_leaves_a_state_that_json_holds(confidence: float) -> None:
    """Rules may say anything of a frame, and sums may overflow: the frame votes, and the state can be stored."""
    event = completed(0, VALID)
    (observation,) = event.observations
    state = after(*(replace(event, observations=(replace(observation, confidence=confidence),)) for _ in range(3)), event)
    canonical_json(state)
    said = core.conclude("p", state.passages["p"])
    assert (said.label, said.votes_for) == (VALID, 4)


def test_a_frame_without_a_passage_stands_alone() -> None:
    """No passage: a result without a conclusion, and no state."""
    (result,) = decided((), completed(0, VALID, passage=None))
    assert result.conclusion is None
    assert after(completed(0, VALID, passage=None)) == core.INITIAL


def test_a_failure_and_a_skip_are_results_too() -> None:
    """Exactly one ResultDerived each, saying what happened; they count in the passage and do not vote."""
    (result,) = decided((completed(0, VALID),), failed(1))
    assert (result.outcome, result.detail) == ("failed", "step_failed in recognizer: no")
    assert (result.conclusion.label, result.conclusion.frames_count, result.conclusion.votes_total) == (VALID, 2, 1)
    (result,) = decided((), skipped(0))
    assert (result.outcome, result.detail, result.release) == ("skipped", "no_release_in_force", None)


def test_nothing_read_says_so() -> None:
    """An answer without observations is a result: nothing_read."""
    (result,) = decided((), completed(0))
    assert (result.outcome, result.readings, result.conclusion.label) == ("nothing_read", (), None)


def test_a_valid_code_beats_any_number_of_invalid_ones() -> None:
    """One reading that verifies itself outweighs many that do not, and corrects what was said."""
    events = (completed(0, WRONG), completed(1, WRONG))
    result, corrected = decided(events, completed(2, VALID))
    assert isinstance(result, ResultDerived)
    assert isinstance(corrected, ResultCorrected)
    where = cause(9, "vision.inferences").position
    assert corrected.source == at(where, 1)
    assert corrected.event_id == ids.event_id(at(where, 1), "ResultCorrected")
    assert (corrected.previous.label, corrected.conclusion.label) == (WRONG, VALID)


def test_among_valid_codes_most_votes_win_then_confidence() -> None:
    """Two frames beat one; the correction comes when the majority turns, and not before."""
    assert kinds(decided((completed(0, VALID),), completed(1, VALID))) == ["ResultDerived"]
    tie = decided((completed(0, VALID), completed(1, VALID)), completed(2, OTHER))
    assert kinds(tie) == ["ResultDerived"]
    assert tie[0].conclusion.label == VALID
    turned = decided((completed(0, VALID), completed(1, OTHER)), completed(2, VALID))
    assert turned[0].conclusion.label == VALID


def test_an_alert_is_raised_once_and_cleared_once() -> None:
    """The third frame without a valid code raises; the fourth says nothing more; a valid one clears, with the same alert id."""
    history: tuple[Any, ...] = ()
    told = []
    for event in (completed(0), completed(1, WRONG), completed(2), completed(3), completed(4, VALID), completed(5, VALID)):
        told.append(kinds(decided(history, event, offset=event.frame.sequence)))
        history = (*history, event)
    assert told == [
        ["ResultDerived"],
        ["ResultDerived"],
        ["ResultDerived", "AlertRaised"],
        ["ResultDerived"],
        ["ResultDerived", "ResultCorrected", "AlertCleared"],
        ["ResultDerived"],
    ]
    raised = decided(history[:2], history[2], offset=2)[1]
    cleared = decided(history[:4], history[4], offset=4)[2]
    assert isinstance(raised, AlertRaised)
    assert isinstance(cleared, AlertCleared)
    assert raised.alert_id == cleared.alert_id
    assert (raised.source.index, cleared.source.index) == (0, 0), "indexes count apart for each topic"
    assert (raised.subject, raised.kind, raised.evidence["best_label"]) == ("gate-1", "unreadable_code", WRONG)


def test_only_the_latest_passages_are_kept() -> None:
    """Eight passages a device are remembered, the one heard from longest ago goes first."""
    state = after(*(completed(n, VALID, passage=f"p{n}") for n in range(8)), completed(9, VALID, passage="p0"))
    state = core.fold(rules, state, completed(10, VALID, passage="new"))
    assert state.order == ("p2", "p3", "p4", "p5", "p6", "p7", "p0", "new")
    assert set(state.passages) == set(state.order)
