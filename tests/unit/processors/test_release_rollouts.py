"""release, rollouts: what may begin, how it goes on, how it ends; refusals say why, and a failed verdict ends a trial."""

from typing import Any

import pytest

from processors.release import core
from processors.release.loader import wanted
from schemas.events import (
    AbortRollout,
    CanaryAdvanced,
    CanaryStarted,
    CommandRefused,
    PromoteRelease,
    PromotionEnded,
    PromotionRequested,
    ReleaseLoaded,
    ReleaseLoadFailed,
    ReleasePromoted,
    ReleaseRolledBack,
    ReportVerdict,
    RollBackRelease,
    RolloutEnded,
    RolloutJudged,
    ShadowStarted,
    StartCanary,
    StartShadow,
)
from schemas.types import EventId, Gate
from tests.given import AT_US, cause
from tests.unit.processors.test_release_core import after, change, decided, load_failed, loaded, promote, register


def _asked(command_id: str = "c", **more: Any) -> Any:
    return {
        "command_id": EventId(command_id),
        "pipeline": "gate",
        "issued_at_us": AT_US,
        "issued_by": "me",
        "reason": "why",
        **more,
    }


def shadow(release: str = "r2") -> StartShadow:
    return StartShadow(**_asked("trial", release=release))


def canary(*steps: float, release: str = "r2", unit: str = "passage") -> StartCanary:
    return StartCanary(**_asked("trial", release=release, steps_percent=steps or (5.0, 25.0, 50.0), unit=unit))


def verdict(verdict: str, stage: int = 0, rollout_id: str = "trial") -> ReportVerdict:
    return ReportVerdict(
        command_id=EventId("v"),
        pipeline="gate",
        rollout_id=rollout_id,
        stage=stage,
        verdict=verdict,
        deciding="valid",
        measures={"candidate_valid": 0.5},
        issued_at_us=AT_US,
    )


def back(release: str | None = None) -> RollBackRelease:
    return RollBackRelease(**_asked(release=release))


def abort() -> AbortRollout:
    return AbortRollout(**_asked())


def gate(passed: bool) -> Gate:
    return Gate(
        name="whatif", window_from_us=0, window_to_us=9, conditions={}, measures={}, passed=passed, detail="3 proofs lost"
    )


READY = (register("r1"), promote("r1"), loaded("r1"), register("r2"), loaded("r2"))
CANARY = (*READY, canary())
R1_R2_R3 = (*READY, promote("r2"), loaded("r2"), register("r3"), promote("r3"), loaded("r3"))


@pytest.mark.parametrize(
    ("given", "command", "refusal"),
    [
        (READY, shadow("r9"), "not_registered"),
        ((register("r1"), loaded("r1")), shadow("r1"), "nothing_in_force"),
        (READY, shadow("r1"), "in_force_already"),
        ((*READY, register("r3")), canary(release="r3"), "not_ready"),
        (CANARY, shadow(), "another_rollout_runs"),
        ((*CANARY, register("r3"), loaded("r3")), promote("r3"), "another_rollout_runs"),
        ((*READY, promote("r2")), canary(), "another_promotion_waits"),
        (READY, canary(0.0), "bad_value"),
        (READY, canary(100.0), "bad_value"),
        (READY, canary(float("nan")), "bad_value"),
        (READY, canary(25.0, 5.0), "bad_value"),
        (READY, canary(5.0, 5.0), "bad_value"),
        (READY, canary(unit="frame"), "bad_value"),
        (READY, abort(), "no_rollout"),
        (READY, back(), "nothing_before"),
        (R1_R2_R3, back("r3"), "in_force_already"),
        ((*R1_R2_R3, register("r4")), back("r4"), "never_in_force"),
        ((*CANARY, verdict("failed")), promote("r2"), "verdict_failed"),
        (READY, PromoteRelease(**_asked(release="r2", gate=gate(False))), "gate_failed"),
        (READY, PromoteRelease(**_asked(release="r2", expected_revision=1)), "state_moved"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(given: tuple[Any, ...], command: Any, refusal: str) -> None:
    """A refusal is one event with its reason, and the state stays as it was."""
    (event,) = decided(given, command)
    assert isinstance(event, CommandRefused)
    assert (event.refusal, event.command) == (refusal, type(command).__name__)
    assert core.fold(after(*given), event) == after(*given)


def test_a_shadow_begins_and_the_release_in_force_reads_on() -> None:
    """It has the id of its command, and is loaded for as long as it runs."""
    (event,) = decided(READY, shadow())
    assert isinstance(event, ShadowStarted)
    state = after(*READY, shadow())
    assert state.rollout is not None
    assert (state.rollout.rollout_id, state.rollout.kind, state.rollout.percent, state.in_force) == ("trial", "shadow", 0.0, "r1")
    assert wanted(state, 1) == ("r1", "r2")


def test_a_canary_goes_through_its_shares_by_verdicts_and_then_waits_for_a_person() -> None:
    """Each success but the last leads to the next share; after the last, only the verdict stands."""
    (started,) = decided(READY, canary())
    assert isinstance(started, CanaryStarted)
    assert (started.percent, started.steps_percent) == (5.0, (5.0, 25.0, 50.0))
    first = decided(CANARY, verdict("successful"))
    assert [type(e) for e in first] == [RolloutJudged, CanaryAdvanced]
    assert (first[1].percent, first[1].previous_percent, first[1].stage) == (25.0, 5.0, 1)
    last = (*CANARY, verdict("successful"), verdict("successful", 1))
    (judged,) = decided(last, verdict("successful", 2))
    assert (type(judged), judged.stage) == (RolloutJudged, 2)
    state = after(*last, verdict("successful", 2))
    assert state.rollout is not None
    assert (state.rollout.percent, state.rollout.verdict, state.in_force) == (50.0, "successful", "r1")


def test_a_verdict_that_failed_ends_the_trial_in_the_same_step() -> None:
    """Judged, and over: there is no moment in which the failed release is known and still reads."""
    judged, over = decided(CANARY, verdict("failed"))
    assert (type(judged), judged.verdict, judged.deciding, judged.measures) == (
        RolloutJudged,
        "failed",
        "valid",
        {"candidate_valid": 0.5},
    )
    assert isinstance(over, RolloutEnded)
    assert (over.outcome, over.issued_by, over.rollout_id) == ("rolled_back", "hindsight", "trial")
    assert over.source.index == 1
    state = after(*CANARY, verdict("failed"))
    assert (state.rollout, state.in_force, state.releases["r2"].verdict) == (None, "r1", "failed")


def test_an_inconclusive_verdict_stands_and_the_trial_goes_on() -> None:
    """A person decides then."""
    (judged,) = decided(CANARY, verdict("inconclusive"))
    assert judged.verdict == "inconclusive"
    state = after(*CANARY, verdict("inconclusive"))
    assert state.rollout is not None
    assert (state.rollout.verdict, state.rollout.percent) == ("inconclusive", 5.0)


@pytest.mark.parametrize("late", [verdict("failed", 1), verdict("failed", 0, "another"), verdict("successful", 7)])
def test_a_verdict_on_what_is_over_changes_nothing(late: ReportVerdict) -> None:
    """Of another trial, or another stage; told twice, too."""
    assert decided(CANARY, late) == ()
    assert decided((*CANARY, verdict("inconclusive")), verdict("inconclusive")) == ()
    assert decided(READY, late) == ()


def test_promoting_what_is_on_trial_ends_the_trial() -> None:
    """The promotion says all that holds from it on, and the trial is over in the same step."""
    given = (*CANARY, change("text_confidence", 0.7), promote("r2"))
    promoted, over = decided(given, loaded("r2"))
    assert isinstance(promoted, ReleasePromoted)
    assert (promoted.steps, promoted.parameters) == (after(*given).releases["r2"].steps, {"text_confidence": 0.7})
    assert promoted.overrides == {"text_confidence": 0.7}
    assert (type(over), over.outcome, over.source.index) == (RolloutEnded, "promoted", 1)
    assert after(*given, loaded("r2")).rollout is None


def test_a_failed_release_can_be_promoted_by_one_who_says_so_or_be_tried_again() -> None:
    """The verdict is evidence, and stands until there is another one: a trial that was begun and ended shows nothing."""
    failed = (*CANARY, verdict("failed"))
    (event,) = decided(failed, PromoteRelease(**_asked(release="r2", despite_verdict=True)))
    assert isinstance(event, PromotionRequested)
    (event,) = decided((*failed, canary(10.0), abort()), promote("r2"))
    assert event.refusal == "verdict_failed"
    (event,) = decided((*failed, canary(10.0), verdict("successful")), promote("r2"))
    assert isinstance(event, PromotionRequested)


def test_a_promotion_that_waits_is_over_with_the_trial_that_failed() -> None:
    """Nobody asked for it despite the verdict."""
    given = (*CANARY, promote("r2"), verdict("failed"))
    assert after(*given).pending is None
    assert [type(e).__name__ for e in decided(given, loaded("r2", "two:8001"))] == ["ReleaseLoaded"]


def test_a_way_back_passes_over_a_release_whose_verdict_is_failed() -> None:
    """It read before, and was tried again since."""
    given = (*R1_R2_R3, canary(10.0), verdict("failed"))
    (asked,) = decided(given, back())
    assert asked.release == "r1"
    (asked,) = decided(given, back("r2"))
    assert asked.release == "r2"


def test_a_way_back_leads_to_the_release_before_and_then_further_back() -> None:
    """Going back twice does not lead forward again to what was left."""
    (asked,) = decided(R1_R2_R3, back())
    assert (type(asked), asked.release, asked.is_rollback) == (PromotionRequested, "r2", True)
    (event,) = decided((*R1_R2_R3, back()), loaded("r2"))
    assert isinstance(event, ReleaseRolledBack)
    assert (event.release, event.previous_release, event.parameters) == ("r2", "r3", {"text_confidence": 0.5})
    state = after(*R1_R2_R3, back(), loaded("r2"))
    assert (state.in_force, state.previous, state.earlier) == ("r2", "r3", ("r1",))
    assert after(*R1_R2_R3, back(), loaded("r2"), back(), loaded("r1")).in_force == "r1"
    assert after(*R1_R2_R3, back("r1"), loaded("r1")).earlier == ()


def test_a_way_back_is_not_held_up_by_a_trial_or_a_promotion() -> None:
    """It takes the place of a promotion that waits, and ends the trial."""
    given = (*READY, promote("r2"), loaded("r2"), register("r3"), loaded("r3"), canary(release="r3"))
    rolled, over = decided((*given, back()), loaded("r1"))
    assert (type(rolled), rolled.release) == (ReleaseRolledBack, "r1")
    assert (over.outcome, over.release, over.reason) == ("aborted", "r3", "r1 was put in force")
    waiting = (*R1_R2_R3, register("r4"), promote("r4"))
    assert after(*waiting, back(), loaded("r2")).in_force == "r2"


def test_a_promotion_that_waits_can_be_called_off() -> None:
    """Also a way back, and together with a trial; what is loaded later promotes nothing, and another may be asked for."""
    waiting = (*READY, register("r3"), promote("r3"))
    (off,) = decided(waiting, abort())
    assert (type(off), off.release, off.is_rollback, off.reason) == (PromotionEnded, "r3", False, "why")
    assert after(*waiting, abort()).pending is None
    assert [type(e) for e in decided((*waiting, abort()), loaded("r3"))] == [ReleaseLoaded]
    assert [type(e) for e in decided((*waiting, abort()), promote("r2"))] == [PromotionRequested]
    over, off = decided((*CANARY, promote("r2")), abort())
    assert (type(over), type(off), off.source.index) == (RolloutEnded, PromotionEnded, 1)
    (off,) = decided((*READY, promote("r2"), loaded("r2"), back()), abort())
    assert off.is_rollback


def test_what_read_before_stays_loaded() -> None:
    """So that a way back takes a moment, also when many releases were registered since."""
    state = after(*R1_R2_R3, register("r4"), register("r5"), register("r6"))
    assert wanted(state, 4)[:2] == ("r3", "r2")


def test_a_trial_whose_release_no_server_has_is_over() -> None:
    """The load failed where it was last; while another server has it, the trial goes on."""
    failed, over = decided(CANARY, load_failed("r2"))
    assert (type(failed), type(over), over.outcome) == (ReleaseLoadFailed, RolloutEnded, "rolled_back")
    assert after(*CANARY, load_failed("r2")).rollout is None
    assert [type(e) for e in decided((*CANARY, loaded("r2", "two:8001")), load_failed("r2"))] == [ReleaseLoadFailed]


def test_of_two_commands_for_one_revision_one_wins() -> None:
    """The second was made for a state that is gone; what the loader reports does not count."""
    revision = after(*READY).revision
    first = PromoteRelease(**_asked(release="r2", expected_revision=revision))
    second = StartCanary(**_asked("other", release="r2", steps_percent=(5.0,), unit="device", expected_revision=revision))
    assert isinstance(decided(READY, first)[0], PromotionRequested)
    (refused,) = decided((*READY, first), second)
    assert (refused.refusal, refused.command_id) == ("state_moved", "other")
    assert after(*READY, loaded("r1", "two:8001"), load_failed("r2")).revision == revision


def test_the_view_counts_the_same_revisions_as_the_decider() -> None:
    """Folding what lies on the log gives the state that decides, so that a command can name it."""
    commands = (*CANARY, verdict("successful"), verdict("failed", 1), promote("r2"), promote("r1"), back(), shadow())
    state, view = core.INITIAL, core.INITIAL
    for offset, command in enumerate(commands):
        events = core.decide(state, command, cause(offset, "vision.commands"))
        state = core.fold_all(events, state)
        for event in events:
            view = core.fold(view, event)
    assert view == state
