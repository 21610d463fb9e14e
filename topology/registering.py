"""Releases as they are registered: of the reference pipeline's built repository, or of any registered models.

Guarantees: what is sent pins registered digests, and its steps fit together by the models' own configurations.

Next: `processors.release.core` decides, the loader loads.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from schemas.errors import ConfigurationError, ContractError
from schemas.events import ModelRegistered, RegisterRelease, ReleaseRegistered
from schemas.types import ReleaseStep
from streams.records import system_clock
from topology import commands, model_store
from topology.configuration import Configuration
from topology.configured import configuration_of, members_of
from topology.models import release_parameters, release_steps, release_versions
from topology.past import open_past
from topology.settings import Settings

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What a release is to pin and to start with."""

    name: str
    steps: tuple[ReleaseStep, ...]
    parameters: Mapping[str, float]
    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)


def reference_release(configuration: Configuration, name: str, *, say: Say, timeout_s: float) -> Release:
    """A release of the built repository. Its models are registered first, so that it can be read with again when they are
    gone here.

    Raises:
        ContractError: there is no such release, or the repository was not built.
    """
    versions = release_versions(configuration.home, name)
    model_store.register(configuration.settings, versions, reason=f"release {name}", say=say, timeout_s=timeout_s)
    steps = tuple(ReleaseStep(step=s, model=m, version=v, digest=d) for s, m, v, d in release_steps(configuration.home, name))
    return Release(name=name, steps=steps, parameters=release_parameters())


def release_of(settings: Settings, name: str, steps: Iterable[str], parameters: Iterable[str], limits: Iterable[str]) -> Release:
    """A release of registered models.

    Args:
        steps: Such as people:1, or detection=people:1, in any order.
        parameters: Such as threshold=0.5.
        limits: Such as speed=0..80.
    Raises:
        ContractError: a model is not registered, or the steps do not fit together.
        ConfigurationError: something cannot be read.
    """
    from triton_models.ensemble import hold_joined

    asked = [_step(text) for text in steps]
    with open_past(settings, None) as past:
        known = {(e.model, e.version): e for e in model_store.registered(past, settings.pipeline.name)}
        found = [(step, _known(known, model, version)) for step, model, version in asked]
        texts = {event.model: configuration_of(event, past.blobs) for _, event in found}
    pinned = tuple(ReleaseStep(step=step, model=e.model, version=e.version, digest=e.digest) for step, e in found)
    hold_joined(name, members_of(pinned, {model: text for model, text in texts.items() if text is not None}))
    bounds = dict(_limits(text) for text in limits)
    return Release(
        name=name,
        steps=pinned,
        parameters=dict(_parameter(text) for text in parameters),
        least={parameter: low for parameter, (low, _) in bounds.items()},
        most={parameter: high for parameter, (_, high) in bounds.items()},
    )


def register_release(settings: Settings, release: Release, *, reason: str, timeout_s: float) -> None:
    """Ask for a release, and wait until it is known.

    Raises:
        CommandRefusedError: it is known already, or its parameters are out of their limits.
    """
    command = RegisterRelease(
        command_id=commands.new_command_id(),
        pipeline=settings.pipeline.name,
        release=release.name,
        steps=release.steps,
        parameters=release.parameters,
        issued_by=commands.who(),
        reason=reason,
        issued_at_us=system_clock(),
        parameters_least=release.least,
        parameters_most=release.most,
    )
    commands.send(
        settings,
        command,
        until=lambda e: isinstance(e, ReleaseRegistered) and e.release == release.name,
        timeout_s=timeout_s,
    )


def _known(known: Mapping[tuple[str, int], ModelRegistered], model: str, version: int) -> ModelRegistered:
    if (model, version) not in known:
        others = ", ".join(f"{m}:{v}" for m, v in sorted(known)) or "none yet"
        raise ContractError(f"{model}:{version} is not registered; there are: {others}", do="hindsight models register DIR")
    return known[model, version]


def _step(text: str) -> tuple[str, str, int]:
    step, _, pinned = text.rpartition("=")
    model, _, version = pinned.rpartition(":")
    if not model or not version.isdecimal() or int(version) < 1:
        raise ConfigurationError(f"{text!r} is no step", setting="--step", do="write it as people:1, or detection=people:1")
    return step or model, model, int(version)


def _parameter(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    return name.strip(), _number(value, text, "--parameter", "threshold=0.5")


def _limits(text: str) -> tuple[str, tuple[float, float]]:
    name, _, both = text.partition("=")
    low, _, high = both.partition("..")
    least, most = (_number(value, text, "--limits", "speed=0..80") for value in (low, high))
    return name.strip(), (least, most)


def _number(value: str, text: str, option: str, example: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigurationError(f"{text!r} cannot be read", setting=option, do=f"write it as {example}")
    return number
