"""The release aggregate: commands in, events out. Pure.

A promotion waits until an inference server has its release: it is `PromotionRequested` first, and `ReleasePromoted`
when the loader reports. That a server had the release before says nothing: it may have restarted, empty. What cannot be
done is refused by an event, so that a replay can explain it.
"""

from typing import Any, assert_never

from processors.release import registering, rollouts, serving
from processors.release.refusals import Refusal
from processors.release.registering import wrong_values
from processors.release.state import FAILED, INITIAL, Pending, PipelineReleases, Rollout, fold, fold_all, model_name
from processors.step import Cause
from schemas import ids
from schemas.events import (
    AbortRollout,
    ChangeThreshold,
    CommandRefused,
    PromoteRelease,
    PromotionRequested,
    RegisterModel,
    RegisterRelease,
    ReleaseLoaded,
    ReleaseLoadFailed,
    ReleasePromoted,
    ReleaseRolledBack,
    ReportLoadedModels,
    ReportModelHealed,
    ReportReleaseLoaded,
    ReportReleaseLoadFailed,
    ReportVerdict,
    RollBackRelease,
    StartCanary,
    StartShadow,
)

__all__ = ["INITIAL", "Command", "PipelineReleases", "decide", "fold", "fold_all", "model_name", "wrong_values"]

Asked = (
    RegisterModel
    | RegisterRelease
    | PromoteRelease
    | RollBackRelease
    | StartShadow
    | StartCanary
    | AbortRollout
    | ChangeThreshold
)
Command = Asked | ReportReleaseLoaded | ReportReleaseLoadFailed | ReportModelHealed | ReportLoadedModels | ReportVerdict


def decide(state: PipelineReleases, command: Command, cause: Cause) -> tuple[Any, ...]:
    """Events that follow from a command; a refusal is one of them."""
    match command:
        case ReportReleaseLoaded():
            return _loaded(state, command, cause)
        case ReportReleaseLoadFailed():
            return _load_failed(state, command, cause)
        case ReportModelHealed():
            return serving.healed(state, command, cause)
        case ReportLoadedModels():
            return serving.differed(state, command, cause)
        case ReportVerdict():
            return rollouts.judged(state, command, cause)
        case _:
            decided = _moved(state, command) or _asked(state, command, cause)
            return (_refused(command, decided, cause),) if isinstance(decided, Refusal) else decided


def _moved(state: PipelineReleases, command: Asked) -> Refusal | None:
    """Whether the command was made for another state than this."""
    expected = getattr(command, "expected_revision", None)
    if expected in (None, state.revision):
        return None
    return Refusal("state_moved", f"it was made for revision {expected}, and the releases are at {state.revision}; look again")


def _asked(state: PipelineReleases, command: Asked, cause: Cause) -> tuple[Any, ...] | Refusal:
    match command:
        case RegisterModel():
            return registering.register_model(state, command, cause)
        case RegisterRelease():
            return registering.register_release(state, command, cause)
        case PromoteRelease():
            return _promote(state, command, cause)
        case RollBackRelease():
            return _roll_back(state, command, cause)
        case StartShadow() | StartCanary():
            return rollouts.start(state, command, cause)
        case AbortRollout():
            return rollouts.abort(state, command, cause)
        case ChangeThreshold():
            return registering.change_threshold(state, command, cause)
        case _:
            assert_never(command)


def _promote(state: PipelineReleases, command: PromoteRelease, cause: Cause) -> tuple[Any, ...] | Refusal:
    if command.release not in state.releases:
        return Refusal("not_registered", f"{command.release} is not a registered release of {command.pipeline}")
    if state.in_force == command.release:
        return Refusal("in_force_already", f"{command.release} reads the frames already")
    if (waits := _another_waits(state, command.release)) is not None:
        return waits
    if state.rollout is not None and state.rollout.release != command.release:
        return Refusal("another_rollout_runs", f"a {state.rollout.kind} of {state.rollout.release} runs; abort it first")
    if state.releases[command.release].verdict == FAILED and not command.despite_verdict:
        return Refusal(
            "verdict_failed", f"the last verdict on {command.release} is failed; try it again, or say --despite-verdict"
        )
    if command.gate is not None and not command.gate.passed:
        return Refusal("gate_failed", f"{command.gate.name}: {command.gate.detail}")
    return (
        PromotionRequested(
            event_id=ids.event_id(cause.position, "PromotionRequested"),
            source=cause.position,
            pipeline=command.pipeline,
            release=command.release,
            issued_by=command.issued_by,
            reason=command.reason,
            requested_at_us=command.issued_at_us,
            gate=command.gate,
        ),
    )


def _roll_back(state: PipelineReleases, command: RollBackRelease, cause: Cause) -> tuple[Any, ...] | Refusal:
    """A way back is never held up by a trial: it ends with it."""
    target = command.release if command.release is not None else release_before(state)
    if target is None:
        return Refusal("nothing_before", f"no release of {command.pipeline} read before, but for those whose verdict is failed")
    if target == state.in_force:
        return Refusal("in_force_already", f"{target} reads the frames already")
    if target not in state.earlier:
        known = f"it is one of {', '.join(state.earlier)}" if state.earlier else "there is none"
        return Refusal("never_in_force", f"{target} is none of the last {len(state.earlier)} that read before; {known}")
    return (
        PromotionRequested(
            event_id=ids.event_id(cause.position, "PromotionRequested"),
            source=cause.position,
            pipeline=command.pipeline,
            release=target,
            issued_by=command.issued_by,
            reason=command.reason,
            requested_at_us=command.issued_at_us,
            is_rollback=True,
        ),
    )


def release_before(state: PipelineReleases) -> str | None:
    """Where a way back leads: the latest release that read before, and whose last verdict is not that it failed."""
    good = (r for r in state.earlier if r not in state.releases or state.releases[r].verdict != FAILED)
    return next(good, None)


def _another_waits(state: PipelineReleases, release: str) -> Refusal | None:
    if state.pending is None or state.pending.release == release:
        return None
    return Refusal("another_promotion_waits", f"the promotion of {state.pending.release} waits to be loaded")


def _loaded(state: PipelineReleases, command: ReportReleaseLoaded, cause: Cause) -> tuple[Any, ...]:
    entry = state.releases.get(command.release)
    if entry is None:
        return ()
    out: list[Any] = []
    if command.endpoint not in entry.loaded_on or entry.load_error:
        out.append(
            ReleaseLoaded(
                event_id=ids.event_id(cause.position, "ReleaseLoaded"),
                source=cause.position,
                pipeline=command.pipeline,
                release=command.release,
                endpoint=command.endpoint,
                duration_us=command.duration_us,
                loaded_at_us=command.issued_at_us,
            )
        )
    if state.pending is not None and state.pending.release == command.release:
        out.append(_now_reads(state, command.pipeline, state.pending, cause, len(out), command.issued_at_us))
        if state.rollout is not None:
            out.append(_rollout_over(state.rollout, state.pending, command, cause, len(out)))
    return tuple(out)


def _load_failed(state: PipelineReleases, command: ReportReleaseLoadFailed, cause: Cause) -> tuple[Any, ...]:
    entry, rollout = state.releases.get(command.release), state.rollout
    if entry is None:
        return ()
    ends_promotion = command.gives_up and state.pending is not None and state.pending.release == command.release
    is_told = entry.load_error == command.error_message and command.endpoint not in entry.loaded_on
    if is_told and not ends_promotion:
        return ()
    failed = ReleaseLoadFailed(
        event_id=ids.event_id(cause.position, "ReleaseLoadFailed"),
        source=cause.position,
        pipeline=command.pipeline,
        release=command.release,
        endpoint=command.endpoint,
        error_message=command.error_message,
        failed_at_us=command.issued_at_us,
        gives_up=command.gives_up,
    )
    if rollout is None or rollout.release != command.release or set(entry.loaded_on) - {command.endpoint}:
        return (failed,)
    why = f"no inference server has {rollout.release} any more: {command.error_message}"
    at_us, by = command.issued_at_us, rollouts.BY_VERDICT
    return (failed, rollouts.ended(rollout, command.pipeline, rollouts.ROLLED_BACK, by, why, at_us, cause, 1))


def _now_reads(
    state: PipelineReleases, pipeline: str, asked: Pending, cause: Cause, index: int, at_us: int
) -> ReleasePromoted | ReleaseRolledBack:
    """The switch itself: it says all that holds from here on."""
    source, entry = cause.source(index), state.releases[asked.release]
    kind = ReleaseRolledBack if asked.is_rollback else ReleasePromoted
    common: dict[str, Any] = {
        "event_id": ids.event_id(source, kind.__name__),
        "source": source,
        "pipeline": pipeline,
        "release": asked.release,
        "issued_by": asked.issued_by,
        "reason": asked.reason,
        "steps": entry.steps,
        "parameters": state.thresholds(asked.release),
        "overrides": state.parameters,
    }
    if asked.is_rollback:
        assert state.in_force is not None, "a way back leads from a release that reads"
        return ReleaseRolledBack(**common, previous_release=state.in_force, rolled_back_at_us=at_us)
    return ReleasePromoted(**common, previous_release=state.in_force, promoted_at_us=at_us, gate=asked.gate)


def _rollout_over(rollout: Rollout, asked: Pending, command: ReportReleaseLoaded, cause: Cause, index: int) -> Any:
    """Whatever is put in force ends a trial."""
    is_promoted = rollout.release == asked.release and not asked.is_rollback
    outcome = rollouts.PROMOTED if is_promoted else rollouts.ABORTED
    reason = asked.reason if is_promoted else f"{asked.release} was put in force"
    return rollouts.ended(rollout, command.pipeline, outcome, asked.issued_by, reason, command.issued_at_us, cause, index)


def _refused(command: Asked, refusal: Refusal, cause: Cause) -> CommandRefused:
    return CommandRefused(
        event_id=ids.event_id(cause.position, "CommandRefused"),
        source=cause.position,
        pipeline=command.pipeline,
        command_id=command.command_id,
        command=type(command).__name__,
        release=getattr(command, "release", None),
        refusal=refusal.code,
        detail=refusal.detail,
        issued_by=command.issued_by,
        refused_at_us=command.issued_at_us,
    )
