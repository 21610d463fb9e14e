"""Decisions about a release on trial: start a shadow or a canary, go on, judge, end. Pure.

A trial never decides who reads by itself but in one case: a verdict that it failed ends it, and the release in force
reads everything again. `core` gives the commands here; `routing` carries out what stands in the state.
"""

from typing import Any

from processors.release.refusals import Refusal
from processors.release.state import CANARY, FAILED, SUCCESSFUL, Pending, PipelineReleases, Rollout
from processors.step import Cause
from schemas import ids
from schemas.events import (
    AbortRollout,
    CanaryAdvanced,
    CanaryStarted,
    PromotionEnded,
    ReportVerdict,
    RolloutEnded,
    RolloutJudged,
    ShadowStarted,
    StartCanary,
    StartShadow,
)

ABORTED, ROLLED_BACK, PROMOTED = "aborted", "rolled_back", "promoted"
UNITS = ("passage", "device")
BY_VERDICT = "hindsight"


def start(state: PipelineReleases, command: StartShadow | StartCanary, cause: Cause) -> tuple[Any, ...] | Refusal:
    """A trial begins, if its release is loaded and nothing else is under way."""
    if (refusal := _cannot_start(state, command)) is not None:
        return refusal
    if isinstance(command, StartShadow):
        return (
            ShadowStarted(
                event_id=ids.event_id(cause.position, "ShadowStarted"),
                source=cause.position,
                pipeline=command.pipeline,
                release=command.release,
                issued_by=command.issued_by,
                reason=command.reason,
                started_at_us=command.issued_at_us,
                rollout_id=command.command_id,
            ),
        )
    return (
        CanaryStarted(
            event_id=ids.event_id(cause.position, "CanaryStarted"),
            source=cause.position,
            pipeline=command.pipeline,
            release=command.release,
            percent=command.steps_percent[0],
            issued_by=command.issued_by,
            reason=command.reason,
            started_at_us=command.issued_at_us,
            rollout_id=command.command_id,
            steps_percent=command.steps_percent,
            unit=command.unit,
        ),
    )


def wrong_steps(steps_percent: tuple[float, ...]) -> str:
    """What is wrong with a canary's shares; empty when nothing is."""
    if not steps_percent:
        return "a canary needs a share, such as 10"
    if not all(0 < percent < 100 for percent in steps_percent):
        return f"{_list(steps_percent)}: a share is greater than 0 and less than 100"
    if list(steps_percent) != sorted(set(steps_percent)):
        return f"{_list(steps_percent)}: shares go up, each greater than the one before"
    return ""


def abort(state: PipelineReleases, command: AbortRollout, cause: Cause) -> tuple[Any, ...] | Refusal:
    """The trial ends, and a promotion that waits for its release to be loaded; by a person."""
    if state.rollout is None and state.pending is None:
        return Refusal("no_rollout", f"no shadow and no canary of {command.pipeline} runs, and no promotion waits")
    out: list[Any] = []
    if state.rollout is not None:
        by, at_us = command.issued_by, command.issued_at_us
        out.append(ended(state.rollout, command.pipeline, ABORTED, by, command.reason, at_us, cause, 0))
    if state.pending is not None:
        out.append(_called_off(state.pending, command, cause, len(out)))
    return tuple(out)


def judged(state: PipelineReleases, command: ReportVerdict, cause: Cause) -> tuple[Any, ...]:
    """A verdict on the stage that runs; a late one, on a trial or a stage that is over, changes nothing."""
    rollout = state.rollout
    is_of_it = rollout is not None and (rollout.rollout_id, rollout.stage) == (command.rollout_id, command.stage)
    if rollout is None or not is_of_it or rollout.verdict == command.verdict:
        return ()
    verdict = RolloutJudged(
        event_id=ids.event_id(cause.position, "RolloutJudged"),
        source=cause.position,
        pipeline=command.pipeline,
        release=rollout.release,
        verdict=command.verdict,
        measures=command.measures,
        judged_at_us=command.issued_at_us,
        rollout_id=rollout.rollout_id,
        stage=rollout.stage,
        deciding=command.deciding,
    )
    if command.verdict == FAILED:
        why = f"the verdict on {rollout.release} is failed, by {command.deciding or 'its samples'}"
        over = ended(rollout, command.pipeline, ROLLED_BACK, BY_VERDICT, why, command.issued_at_us, cause, 1)
        return (verdict, over)
    is_last = rollout.stage + 1 >= len(rollout.steps_percent)
    if command.verdict == SUCCESSFUL and rollout.kind == CANARY and not is_last:
        return (verdict, _advanced(rollout, command, cause))
    return (verdict,)


def ended(
    rollout: Rollout, pipeline: str, outcome: str, by: str, reason: str, at_us: int, cause: Cause, index: int
) -> RolloutEnded:
    source = cause.source(index)
    return RolloutEnded(
        event_id=ids.event_id(source, "RolloutEnded"),
        source=source,
        pipeline=pipeline,
        release=rollout.release,
        rollout_id=rollout.rollout_id,
        kind=rollout.kind,
        outcome=outcome,
        issued_by=by,
        reason=reason,
        ended_at_us=at_us,
    )


def _called_off(pending: Pending, command: AbortRollout, cause: Cause, index: int) -> PromotionEnded:
    source = cause.source(index)
    return PromotionEnded(
        event_id=ids.event_id(source, "PromotionEnded"),
        source=source,
        pipeline=command.pipeline,
        release=pending.release,
        is_rollback=pending.is_rollback,
        issued_by=command.issued_by,
        reason=command.reason,
        ended_at_us=command.issued_at_us,
    )


def _cannot_start(state: PipelineReleases, command: StartShadow | StartCanary) -> Refusal | None:
    entry = state.releases.get(command.release)
    if entry is None:
        return Refusal("not_registered", f"{command.release} is not a registered release of {command.pipeline}")
    if state.in_force is None:
        return Refusal("nothing_in_force", f"no release of {command.pipeline} is in force to compare with; promote one first")
    if state.in_force == command.release:
        return Refusal("in_force_already", f"{command.release} reads the frames already")
    if state.rollout is not None:
        return Refusal("another_rollout_runs", f"a {state.rollout.kind} of {state.rollout.release} runs; abort it first")
    if state.pending is not None:
        return Refusal("another_promotion_waits", f"the promotion of {state.pending.release} waits to be loaded")
    if not entry.loaded_on:
        told = entry.load_error or "no inference server has said yet that it has it"
        return Refusal("not_ready", f"{command.release} is not loaded: {told}")
    if isinstance(command, StartCanary):
        if wrong := wrong_steps(command.steps_percent):
            return Refusal("bad_value", wrong)
        if command.unit not in UNITS:
            return Refusal("bad_value", f"{command.unit!r} is none of {', '.join(UNITS)}")
    return None


def _advanced(rollout: Rollout, command: ReportVerdict, cause: Cause) -> CanaryAdvanced:
    source, stage = cause.source(1), rollout.stage + 1
    return CanaryAdvanced(
        event_id=ids.event_id(source, "CanaryAdvanced"),
        source=source,
        pipeline=command.pipeline,
        release=rollout.release,
        rollout_id=rollout.rollout_id,
        stage=stage,
        percent=rollout.steps_percent[stage],
        previous_percent=rollout.percent,
        advanced_at_us=command.issued_at_us,
    )


def _list(steps_percent: tuple[float, ...]) -> str:
    return ", ".join(f"{percent:g}" for percent in steps_percent)
