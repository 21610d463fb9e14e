"""Decisions about what may read: model versions, releases, and the parameters that they read with. Pure.

What is registered never changes: the same again is told as such, something else under its name is refused.
"""

from collections.abc import Mapping
from math import inf, isfinite
from types import MappingProxyType
from typing import Any

from processors.release.refusals import Refusal
from processors.release.state import PipelineReleases, ReleaseEntry, model_name
from processors.step import Cause
from schemas import ids
from schemas.events import ChangeThreshold, ModelRegistered, RegisterModel, RegisterRelease, ReleaseRegistered, ThresholdChanged
from schemas.model_files import digest_of, problem_with

_NO_LIMITS: Mapping[str, float] = MappingProxyType({})


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


def register_model(state: PipelineReleases, command: RegisterModel, cause: Cause) -> tuple[Any, ...] | Refusal:
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


def register_release(state: PipelineReleases, command: RegisterRelease, cause: Cause) -> tuple[Any, ...] | Refusal:
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


def change_threshold(state: PipelineReleases, command: ChangeThreshold, cause: Cause) -> tuple[Any, ...] | Refusal:
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
