"""The release aggregate: commands in, events out. Pure.

A promotion waits until an inference server has its release: it is `PromotionRequested` first, and `ReleasePromoted`
when the loader reports. That a server had the release before says nothing: it may have restarted, empty. What cannot be
done is refused by an event, so that a replay can explain it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from processors.step import Cause
from schemas import ids
from schemas.events import (
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
    ReportReleaseLoaded,
    ReportReleaseLoadFailed,
    ThresholdChanged,
)
from schemas.model_files import digest_of, problem_with
from schemas.types import ReleaseStep, SourcePosition

Command = RegisterModel | RegisterRelease | PromoteRelease | ChangeThreshold | ReportReleaseLoaded | ReportReleaseLoadFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEntry:
    """One release: its pinned steps, its own thresholds, and the inference servers that had it when they last said."""

    steps: tuple[ReleaseStep, ...]
    parameters: Mapping[str, float]
    registered_at_us: int
    registered_by: str
    loaded_on: tuple[str, ...] = ()
    load_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A promotion that waits for its release to be loaded."""

    release: str
    issued_by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReleases:
    """State of one pipeline. `parameters` are thresholds changed by hand; they hold over a release's own. `models` are the
    digests of the model versions whose files are kept, by "model:version"."""

    releases: Mapping[str, ReleaseEntry] = field(default_factory=dict)
    in_force: str | None = None
    promoted_at_us: int = 0
    promoted_by: str = ""
    promoted_reason: str = ""
    previous: str | None = None
    pending: Pending | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)

    def thresholds(self) -> Mapping[str, float]:
        """The parameters in force."""
        entry = self._entry_in_force()
        return {**(entry.parameters if entry is not None else {}), **self.parameters}

    def pins(self) -> Mapping[str, str]:
        """Digests by step of the release in force."""
        entry = self._entry_in_force()
        return {s.step: s.digest for s in entry.steps} if entry is not None else {}

    def _entry_in_force(self) -> ReleaseEntry | None:
        return self.releases.get(self.in_force) if self.in_force is not None else None


INITIAL = PipelineReleases()


def decide(state: PipelineReleases, command: Command, cause: Cause) -> tuple[Any, ...]:
    """Events that follow from a command; a refusal is one of them."""
    match command:
        case RegisterModel():
            return _register_model(state, command, cause)
        case RegisterRelease():
            return _register(state, command, cause)
        case PromoteRelease():
            return _promote(state, command, cause)
        case ChangeThreshold():
            return _change_threshold(state, command, cause)
        case ReportReleaseLoaded():
            return _loaded(state, command, cause)
        case ReportReleaseLoadFailed():
            return _load_failed(state, command, cause)


def fold(state: PipelineReleases, event: Any) -> PipelineReleases:
    """The state after an event of vision.releases. What it does not know, or cannot place, leaves it as it is."""
    match event:
        case ModelRegistered():
            return replace(state, models={**state.models, model_name(event): event.digest})
        case ReleaseRegistered():
            entry = ReleaseEntry(
                steps=event.steps,
                parameters=event.parameters,
                registered_at_us=event.registered_at_us,
                registered_by=event.issued_by,
            )
            return replace(state, releases={**state.releases, event.release: entry})
        case ReleaseLoaded() | ReleaseLoadFailed() if event.release not in state.releases:
            return state
        case ReleaseLoaded():
            entry = state.releases[event.release]
            loaded = replace(entry, loaded_on=tuple(sorted({*entry.loaded_on, event.endpoint})), load_error="")
            return replace(state, releases={**state.releases, event.release: loaded})
        case ReleaseLoadFailed():
            entry = state.releases[event.release]
            others = tuple(endpoint for endpoint in entry.loaded_on if endpoint != event.endpoint)
            failed = replace(entry, loaded_on=others, load_error=event.error_message)
            still = None if state.pending is not None and state.pending.release == event.release else state.pending
            return replace(state, releases={**state.releases, event.release: failed}, pending=still)
        case PromotionRequested():
            asked = Pending(release=event.release, issued_by=event.issued_by, reason=event.reason)
            again = {n: replace(e, load_error="") if n == event.release else e for n, e in state.releases.items()}
            return replace(state, pending=asked, releases=again)
        case ReleasePromoted() | ReleaseRolledBack():
            return _in_force(state, event)
        case ThresholdChanged():
            return replace(state, parameters={**state.parameters, event.name: event.value})
        case _:
            return state


def wrong_values(parameters: Mapping[str, float]) -> str:
    """What is wrong with thresholds: each must be greater than 0 and less than 1. Empty when nothing is."""
    wrong = [f"{name} is {value:g}" for name, value in sorted(parameters.items()) if not 0 < value < 1]
    return f"{', '.join(wrong)}: a threshold must be greater than 0 and less than 1" if wrong else ""


def fold_all(events: tuple[Any, ...], state: PipelineReleases) -> PipelineReleases:
    return reduce(fold, events, state)


def model_name(of: RegisterModel | ModelRegistered | ReleaseStep) -> str:
    """A model version's name in the state, such as detection:3."""
    return f"{of.model}:{of.version}"


def _in_force(state: PipelineReleases, event: ReleasePromoted | ReleaseRolledBack) -> PipelineReleases:
    at_us = event.promoted_at_us if isinstance(event, ReleasePromoted) else event.rolled_back_at_us
    return replace(
        state,
        in_force=event.release,
        previous=event.previous_release,
        promoted_at_us=at_us,
        promoted_by=event.issued_by,
        promoted_reason=event.reason,
        pending=None,
    )


def _register_model(state: PipelineReleases, command: RegisterModel, cause: Cause) -> tuple[Any, ...]:
    name, known = model_name(command), state.models.get(model_name(command))
    if known == command.digest:
        return (_refused(command, "already_registered", f"{name} is registered with the same files", cause),)
    if known is not None:
        told = f"{name} is registered with the digest {known}, not {command.digest}; a model version never changes"
        return (_refused(command, "registered_otherwise", told, cause),)
    if (problem := problem_with(command.files)) is not None:
        return (_refused(command, "bad_files", problem, cause),)
    if (follows := digest_of(command.files)) != command.digest:
        return (_refused(command, "bad_files", f"the files have the digest {follows}, not {command.digest}", cause),)
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
        ),
    )


def _register(state: PipelineReleases, command: RegisterRelease, cause: Cause) -> tuple[Any, ...]:
    known = state.releases.get(command.release)
    if known is not None:
        if known.steps == command.steps and dict(known.parameters) == dict(command.parameters):
            return (_refused(command, "already_registered", f"{command.release} is registered with the same steps", cause),)
        return (
            _refused(
                command,
                "registered_otherwise",
                f"{command.release} is registered with other steps; a release never changes",
                cause,
            ),
        )
    if not command.steps:
        return (_refused(command, "no_steps", "a release pins at least one step", cause),)
    if wrong := wrong_values(command.parameters):
        return (_refused(command, "bad_value", wrong, cause),)
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
        ),
    )


def _promote(state: PipelineReleases, command: PromoteRelease, cause: Cause) -> tuple[Any, ...]:
    if command.release not in state.releases:
        return (
            _refused(command, "not_registered", f"{command.release} is not a registered release of {command.pipeline}", cause),
        )
    if state.in_force == command.release:
        return (_refused(command, "in_force_already", f"{command.release} reads the frames already", cause),)
    if state.pending is not None and state.pending.release != command.release:
        return (
            _refused(command, "another_promotion_waits", f"the promotion of {state.pending.release} waits to be loaded", cause),
        )
    return (
        PromotionRequested(
            event_id=ids.event_id(cause.position, "PromotionRequested"),
            source=cause.position,
            pipeline=command.pipeline,
            release=command.release,
            issued_by=command.issued_by,
            reason=command.reason,
            requested_at_us=command.issued_at_us,
        ),
    )


def _change_threshold(state: PipelineReleases, command: ChangeThreshold, cause: Cause) -> tuple[Any, ...]:
    if state.in_force is None or command.name not in state.releases[state.in_force].parameters:
        known = sorted(state.releases[state.in_force].parameters) if state.in_force is not None else []
        return (
            _refused(command, "unknown_parameter", f"{command.name} is none of {', '.join(known) or 'no parameters yet'}", cause),
        )
    if wrong := wrong_values({command.name: command.value}):
        return (_refused(command, "bad_value", wrong, cause),)
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
    out: list[ReleaseLoaded | ReleasePromoted] = []
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
        out.append(_promoted(state, command.pipeline, state.pending, cause, len(out), command.issued_at_us))
    return tuple(out)


def _load_failed(state: PipelineReleases, command: ReportReleaseLoadFailed, cause: Cause) -> tuple[Any, ...]:
    entry = state.releases.get(command.release)
    if entry is None or (entry.load_error == command.error_message and command.endpoint not in entry.loaded_on):
        return ()
    return (
        ReleaseLoadFailed(
            event_id=ids.event_id(cause.position, "ReleaseLoadFailed"),
            source=cause.position,
            pipeline=command.pipeline,
            release=command.release,
            endpoint=command.endpoint,
            error_message=command.error_message,
            failed_at_us=command.issued_at_us,
        ),
    )


def _promoted(state: PipelineReleases, pipeline: str, asked: Pending, cause: Cause, index: int, at_us: int) -> ReleasePromoted:
    source = SourcePosition(
        topic=cause.position.topic, partition=cause.position.partition, offset=cause.position.offset, index=index
    )
    return ReleasePromoted(
        event_id=ids.event_id(source, "ReleasePromoted"),
        source=source,
        pipeline=pipeline,
        release=asked.release,
        previous_release=state.in_force,
        issued_by=asked.issued_by,
        reason=asked.reason,
        promoted_at_us=at_us,
    )


def _refused(
    command: RegisterModel | RegisterRelease | PromoteRelease | ChangeThreshold, refusal: str, detail: str, cause: Cause
) -> CommandRefused:
    return CommandRefused(
        event_id=ids.event_id(cause.position, "CommandRefused"),
        source=cause.position,
        pipeline=command.pipeline,
        command_id=command.command_id,
        command=type(command).__name__,
        release=getattr(command, "release", None),
        refusal=refusal,
        detail=detail,
        issued_by=command.issued_by,
        refused_at_us=command.issued_at_us,
    )
