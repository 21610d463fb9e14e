"""The release aggregate: commands in, events out. Pure.

A promotion waits until an inference server has its release: it is `PromotionRequested` first, and `ReleasePromoted`
when the loader reports. That a server had the release before says nothing: it may have restarted, empty. What cannot be
done is refused by an event, so that a replay can explain it.
"""

from collections.abc import Mapping
from math import inf, isfinite
from types import MappingProxyType
from typing import Any, assert_never

from processors.release import rollouts, serving
from processors.release.refusals import Refusal
from processors.release.state import FAILED, INITIAL, Pending, PipelineReleases, ReleaseEntry, Rollout, fold, fold_all, model_name
from processors.step import Cause
from schemas import ids
from schemas.events import (
    AbortRollout,
    ChangeThreshold,
    CommandRefused,
    ModelRegistered,
    PromoteRelease,
    PromotionRequested,
    RegisterModel,
    RegisterRelease,
    ReleaseLoaded,
    ReleaseLoadFailed,
    ReleasePromoted,
    ReleaseRegistered,
    ReleaseRolledBack,
    ReportLoadedModels,
    ReportModelHealed,
    ReportReleaseLoaded,
    ReportReleaseLoadFailed,
    ReportVerdict,
    RollBackRelease,
    StartCanary,
    StartShadow,
    ThresholdChanged,
)
from schemas.model_files import digest_of, problem_with

__all__ = ["INITIAL", "Command", "PipelineReleases", "decide", "fold", "fold_all", "model_name", "wrong_values"]

_NO_LIMITS: Mapping[str, float] = MappingProxyType({})

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


def wrong_values(
    parameters: Mapping[str, float], *, least: Mapping[str, float] = _NO_LIMITS, most: Mapping[str, float] = _NO_LIMITS
) -> str:
    """What is wrong with parameters, empty when nothing is: one that the release gives limits lies within them, limits counted;
    any other is a threshold, greater than 0 and less than 1."""
    limited = least.keys() | most.keys()
    wrong = [f"{name} is {value:g}" for name, value in sorted(parameters.items()) if name not in limited and not 0 < value < 1]
    if wrong:
        return f"{', '.join(wrong)}: a threshold must be greater than 0 and less than 1"
    outside = [
        f"{name} is {parameters[name]:g}, and must be from {least.get(name, -inf):g} to {most.get(name, inf):g}"
        for name in sorted(limited & parameters.keys())
        if not (least.get(name, -inf) <= parameters[name] <= most.get(name, inf) and isfinite(parameters[name]))
    ]
    return "; ".join(outside)


def _moved(state: PipelineReleases, command: Asked) -> Refusal | None:
    """Whether the command was made for another state than this."""
    expected = getattr(command, "expected_revision", None)
    if expected in (None, state.revision):
        return None
    return Refusal("state_moved", f"it was made for revision {expected}, and the releases are at {state.revision}; look again")


def _asked(state: PipelineReleases, command: Asked, cause: Cause) -> tuple[Any, ...] | Refusal:
    match command:
        case RegisterModel():
            return _register_model(state, command, cause)
        case RegisterRelease():
            return _register(state, command, cause)
        case PromoteRelease():
            return _promote(state, command, cause)
        case RollBackRelease():
            return _roll_back(state, command, cause)
        case StartShadow() | StartCanary():
            return rollouts.start(state, command, cause)
        case AbortRollout():
            return rollouts.abort(state, command, cause)
        case ChangeThreshold():
            return _change_threshold(state, command, cause)
        case _:
            assert_never(command)


def _register_model(state: PipelineReleases, command: RegisterModel, cause: Cause) -> tuple[Any, ...] | Refusal:
    name, known = model_name(command), state.models.get(model_name(command))
    if known in (None, command.digest) and (differs := _configured_otherwise(state, command)) is not None:
        return differs
    if known == command.digest:
        return Refusal("already_registered", f"{name} is registered with the same files")
    if known is not None:
        told = f"{name} is registered with the digest {known}, not {command.digest}; a model version never changes"
        return Refusal("registered_otherwise", told)
    if (problem := problem_with(command.files)) is not None:
        return Refusal("bad_files", problem)
    if (follows := digest_of(command.files)) != command.digest:
        return Refusal("bad_files", f"the files have the digest {follows}, not {command.digest}")
    return (
        ModelRegistered(
            event_id=ids.event_id(cause.position, "ModelRegistered"),
            source=cause.position,
            pipeline=command.pipeline,
            model=command.model,
            version=command.version,
            digest=command.digest,
            files=command.files,
            issued_by=command.issued_by,
            reason=command.reason,
            registered_at_us=command.issued_at_us,
            configuration=command.configuration,
            metrics=command.metrics,
            lineage=command.lineage,
        ),
    )


def _configured_otherwise(state: PipelineReleases, command: RegisterModel) -> Refusal | None:
    """All versions of a model's name share one configuration in the inference server."""
    known, asked = state.configurations.get(command.model), command.configuration
    if known is None or asked is None or known == asked.blob.sha256:
        return None
    told = f"{command.model} is registered with the configuration {known}, not {asked.blob.sha256}; give it another name"
    return Refusal("registered_otherwise", told)


def _register(state: PipelineReleases, command: RegisterRelease, cause: Cause) -> tuple[Any, ...] | Refusal:
    known = state.releases.get(command.release)
    if known is not None:
        if known.steps == command.steps and dict(known.parameters) == dict(command.parameters) and _same_limits(known, command):
            return Refusal("already_registered", f"{command.release} is registered with the same steps")
        return Refusal("registered_otherwise", f"{command.release} is registered with other steps; a release never changes")
    if not command.steps:
        return Refusal("no_steps", "a release pins at least one step")
    if strays := sorted((command.parameters_least.keys() | command.parameters_most.keys()) - command.parameters.keys()):
        return Refusal("bad_value", f"{', '.join(strays)} has limits, and is no parameter of {command.release}")
    if wrong := wrong_values(command.parameters, least=command.parameters_least, most=command.parameters_most):
        return Refusal("bad_value", wrong)
    return (
        ReleaseRegistered(
            event_id=ids.event_id(cause.position, "ReleaseRegistered"),
            source=cause.position,
            pipeline=command.pipeline,
            release=command.release,
            steps=command.steps,
            parameters=command.parameters,
            issued_by=command.issued_by,
            reason=command.reason,
            registered_at_us=command.issued_at_us,
            parameters_least=command.parameters_least,
            parameters_most=command.parameters_most,
        ),
    )


def _same_limits(known: ReleaseEntry, command: RegisterRelease) -> bool:
    least, most = dict(command.parameters_least), dict(command.parameters_most)
    return (dict(known.parameters_least), dict(known.parameters_most)) == (least, most)


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
    target = command.release if command.release is not None else next(iter(state.earlier), None)
    if target is None:
        return Refusal("nothing_before", f"no release of {command.pipeline} read before the one in force")
    if target == state.in_force:
        return Refusal("in_force_already", f"{target} reads the frames already")
    if target not in state.earlier:
        known = f"it is one of {', '.join(state.earlier)}" if state.earlier else "there is none"
        return Refusal("never_in_force", f"{target} did not read before, as far as is known; {known}")
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


def _another_waits(state: PipelineReleases, release: str) -> Refusal | None:
    if state.pending is None or state.pending.release == release:
        return None
    return Refusal("another_promotion_waits", f"the promotion of {state.pending.release} waits to be loaded")


def _change_threshold(state: PipelineReleases, command: ChangeThreshold, cause: Cause) -> tuple[Any, ...] | Refusal:
    if state.in_force is None or command.name not in state.releases[state.in_force].parameters:
        known = sorted(state.releases[state.in_force].parameters) if state.in_force is not None else []
        return Refusal("unknown_parameter", f"{command.name} is none of {', '.join(known) or 'no parameters yet'}")
    entry = state.releases[state.in_force]
    if wrong := wrong_values({command.name: command.value}, least=entry.parameters_least, most=entry.parameters_most):
        return Refusal("bad_value", wrong)
    return (
        ThresholdChanged(
            event_id=ids.event_id(cause.position, "ThresholdChanged"),
            source=cause.position,
            pipeline=command.pipeline,
            name=command.name,
            value=command.value,
            previous_value=state.thresholds().get(command.name),
            issued_by=command.issued_by,
            reason=command.reason,
            changed_at_us=command.issued_at_us,
        ),
    )


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
    if entry is None or (entry.load_error == command.error_message and command.endpoint not in entry.loaded_on):
        return ()
    failed = ReleaseLoadFailed(
        event_id=ids.event_id(cause.position, "ReleaseLoadFailed"),
        source=cause.position,
        pipeline=command.pipeline,
        release=command.release,
        endpoint=command.endpoint,
        error_message=command.error_message,
        failed_at_us=command.issued_at_us,
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
