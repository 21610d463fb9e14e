"""The folds behind the views: what each event changes, and what it leaves."""

import math
from dataclasses import replace
from typing import Any

import pytest

from processors.derive import core as derive
from processors.rules import container_codes as rules
from processors.views import folds
from processors.views.catalogue import VIEWS
from processors.views.features import HOUR_US, DeviceFeatures, Features, features, fold_device_features
from schemas.events import AlertCleared, AlertRaised, CommandRefused, FrameRejected, ResultDerived
from schemas.types import EventId
from tests.given import AT_US, accepted, cause, completed, folded, frame


def rejected(sequence: int, reason: str) -> FrameRejected:
    return FrameRejected(
        event_id=EventId("r"),
        source=cause(sequence).position,
        frame=frame(sequence),
        blob_stored=True,
        reasons=(reason,),
        detail="why",
        assessed_at_us=AT_US,
    )


def results(*texts: str) -> list[Any]:
    """Everything that follows from one frame after another of one passage, each reading one text."""
    state, out = derive.INITIAL, []
    for n, text in enumerate(texts):
        event = completed(n, *([text] if text else []))
        out += derive.decide(rules, state, event, cause(n, "vision.inferences"))
        state = derive.fold(rules, state, event)
    return out


def test_device_frames_counts_each_kind_of_outcome_apart() -> None:
    """Accepted, rejected, repeated and missing have a count each, and the last of each kind is at hand."""
    events = (accepted(0), accepted(3, missing_before=2), rejected(4, "too_small"), rejected(0, "repeated"))
    state = folded(folds.fold_device_frames, folds.DeviceFrames(), events)
    assert (state.accepted_count, state.rejected_count, state.repeated_count, state.missing_count) == (2, 1, 1, 2)
    assert (state.last_frame.sequence, state.last_rejected.sequence, state.last_rejected_reasons) == (3, 4, ("too_small",))
    assert (state.last_width_px, state.device_id) == (32, "gate-1")


def test_a_frames_outcome_is_its_first_unless_nothing_was_known() -> None:
    """A repeat or a latecomer never overwrites an outcome, and is the outcome when there is no other."""
    good = folded(folds.fold_frame_outcome, folds.FrameOutcome(), [accepted(0)])
    assert (good.status, good.width_px) == ("accepted", 32)
    for reason in ("repeated", "too_late"):
        assert folds.fold_frame_outcome(good, rejected(0, reason)) == good
        alone = folds.fold_frame_outcome(folds.FrameOutcome(), rejected(0, reason))
        assert (alone.status, alone.reasons, alone.detail) == ("rejected", (reason,), "why")


def test_device_results_counts_outcomes_and_releases() -> None:
    """Every result counts once by outcome and once by release; a correction changes the conclusion and no count."""
    state = folded(folds.fold_device_results, folds.DeviceResults(), results("MSKU0000001", "", "CSQU3054383"))
    assert state.outcome_counts == {"read": 2, "nothing_read": 1}
    assert state.release_counts == {"r1": 3}
    assert (state.corrected_count, state.last_conclusion.label, state.last_result.frame.sequence) == (1, "CSQU3054383", 2)


def test_a_result_without_a_conclusion_leaves_the_last_one() -> None:
    """A frame that stands alone does not wipe out what the last passage said."""
    (first,) = results("CSQU3054383")
    state = folded(folds.fold_device_results, folds.DeviceResults(), [first, replace(first, conclusion=None, release=None)])
    assert state.last_conclusion == first.conclusion
    assert state.release_counts == {"r1": 1, "none": 1}


def test_the_result_of_a_frame_counts_how_often_it_was_given() -> None:
    """Once is right; a second one would show. A correction is not a result."""
    first, *more = results("MSKU0000001", "CSQU3054383")
    assert isinstance(first, ResultDerived)
    state = folded(folds.fold_frame_result, folds.FrameResult(), [first])
    assert (state.counted, state.result) == (1, first)
    assert folds.fold_frame_result(state, more[-1]) == state
    assert folds.fold_frame_result(state, first).counted == 2


def test_alerts_stand_until_they_are_cleared() -> None:
    """A raised alert stands, the same one again replaces itself, clearing removes it, and both are counted."""
    said = results("", "", "", "CSQU3054383")
    (raised,) = [e for e in said if isinstance(e, AlertRaised)]
    (cleared,) = [e for e in said if isinstance(e, AlertCleared)]
    other = replace(raised, alert_id=EventId("other"))
    state = folded(folds.fold_alerts, folds.OpenAlerts(), [raised, other, raised])
    assert [a.alert_id for a in state.open] == ["other", raised.alert_id]
    assert state.raised_count == 3
    state = folds.fold_alerts(state, cleared)
    assert ([a.alert_id for a in state.open], state.cleared_count) == (["other"], 1)


def test_of_many_alerts_the_newest_fifty_are_shown() -> None:
    """The list is bounded; the count is not."""
    (raised,) = [e for e in results("", "", "") if isinstance(e, AlertRaised)]
    events = [replace(raised, alert_id=EventId(str(n))) for n in range(60)]
    state = folded(folds.fold_alerts, folds.OpenAlerts(), events)
    assert (len(state.open), state.open[0].alert_id, state.raised_count) == (50, "10", 60)


def test_an_event_that_a_view_does_not_count_leaves_it() -> None:
    """Each fold stands every event, and keeps its state."""
    stranger = CommandRefused(
        event_id=EventId("m"),
        source=cause(0).position,
        pipeline="gate",
        command_id=EventId("c"),
        command="PromoteRelease",
        release="r1",
        refusal="not_registered",
        detail="",
        issued_by="",
        refused_at_us=0,
    )
    for view in VIEWS.values():
        assert view.fold(view.initial, stranger) == view.initial


def test_each_view_knows_whose_state_an_event_is() -> None:
    """Frames' views key by frame, devices' by device, and an event without the part has no key."""
    derived, *_ = results("A")
    correction = next(e for e in results("MSKU0000001", "CSQU3054383") if type(e).__name__ == "ResultCorrected")
    assert VIEWS["results_by_frame"].key(derived) == derived.frame.frame_id
    assert VIEWS["results_by_frame"].key(correction) is None
    assert VIEWS["device_results"].key(correction) == "gate-1"
    assert VIEWS["device_frames"].key(accepted(0)) == "gate-1"


def at_hour(hour: float, *readings: tuple[float, bool | None], outcome: str = "read") -> ResultDerived:
    """A result of a frame captured so many hours after AT_US, with readings of a confidence and a proof."""
    (one,) = results("CSQU3054383")
    (made,) = one.readings
    return replace(
        one,
        outcome=outcome,
        frame=replace(one.frame, captured_at_us=AT_US + round(hour * HOUR_US)),
        readings=tuple(replace(made, confidence=c, valid=v) for c, v in readings),
    )


def test_features_are_rates_over_the_devices_own_hours() -> None:
    """Of results, of proofs, and the mean confidence; the last hour, and as many hours by the clock as are asked for."""
    state = folded(
        fold_device_features,
        DeviceFeatures(),
        [
            at_hour(0, (0.5, True), (0.7, False)),
            at_hour(1, (0.9, True)),
            at_hour(30, outcome="nothing_read"),
            at_hour(30, (1.0, None)),
        ],
    )
    assert features(state, hours=1) == Features(results_count=2, read_rate=0.5, valid_rate=None, mean_confidence=1.0)
    day = features(
        folded(fold_device_features, DeviceFeatures(), [at_hour(0, (0.5, True), (0.7, False)), at_hour(1, (0.9, True))]), hours=24
    )
    assert (day.results_count, day.read_rate, day.valid_rate) == (2, 1.0, 2 / 3)
    assert day.mean_confidence == pytest.approx(0.7)
    assert features(DeviceFeatures(), hours=24) == Features(
        results_count=0, read_rate=None, valid_rate=None, mean_confidence=None
    )


def test_features_do_not_depend_on_the_order_of_arrival() -> None:
    """Late frames count in their own hour."""
    events = [at_hour(n % 5, (0.1 * (n % 10), None)) for n in range(40)]
    assert folded(fold_device_features, DeviceFeatures(), events) == folded(fold_device_features, DeviceFeatures(), events[::-1])


def test_a_wrong_clock_takes_one_hour_of_the_features() -> None:
    """24 hours with results are kept, whatever year they claim; what is older than all of them changes nothing."""
    events = [at_hour(n) for n in range(30)]
    state = folded(fold_device_features, DeviceFeatures(), events)
    assert [(h.start_us - AT_US // HOUR_US * HOUR_US) // HOUR_US for h in state.hours.values()] == list(range(6, 30))
    assert fold_device_features(state, at_hour(2)) == state
    wild = fold_device_features(state, at_hour(1_000_000))
    assert list(wild.hours.values())[:-1] == list(state.hours.values())[1:]


@pytest.mark.parametrize("captured_at_us", [-(2**63), -1, 2**63 - 1])
def test_features_take_any_time_for_a_capture(captured_at_us: int) -> None:
    """A device's clock may say what no calendar has."""
    event = at_hour(0, (0.5, None))
    wild = replace(event, frame=replace(event.frame, captured_at_us=captured_at_us))
    assert features(folded(fold_device_features, DeviceFeatures(), [event, wild]), hours=1).results_count == 1


@pytest.mark.parametrize("confidence", [math.nan, math.inf, -math.inf, -3.0, 1e308])
def test_features_take_any_number_for_a_confidence(confidence: float) -> None:
    """Rules are a module of anybody's: a number that cannot be is counted at the nearest end, or as nothing."""
    found = features(folded(fold_device_features, DeviceFeatures(), [at_hour(0, (confidence, None))]), hours=1).mean_confidence
    assert found in (0.0, 1.0)
