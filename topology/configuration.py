"""Loads the settings in force and says where each value came from.

`load()` puts the layers together (environment, file, running local stack, default), refuses unknown names with the nearest
known one, and returns a Configuration: the Settings, and the origin of every value. Commands and processes call it
once, at start.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import EnvSettingsSource
from pydantic_settings.exceptions import SettingsError

from schemas.errors import ConfigurationError
from topology.settings import ENVIRONMENT_PREFIX, NESTING, Settings
from topology.stack.layout import Layout, find_home, given_path
from topology.stack.processes import MARK
from topology.stack.servers import ours
from topology.stack.state import Endpoints, read_plan, read_state

FILE_NAME = "hindsight.toml"
# Variables with our prefix that are not settings: where things are, and how errors are shown.
NOT_SETTINGS = frozenset({"HINDSIGHT_HOME", "HINDSIGHT_CONFIG", "HINDSIGHT_DEBUG", MARK})
MASK = "********"
Layer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """A setting's value as shown to people, and the layer that it came from."""

    name: str
    shown: Any
    source: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings in force with the origin of each, sorted by name."""

    settings: Settings
    origins: tuple[Origin, ...]
    file: Path | None
    home: Path


def load(environment: Mapping[str, str] = os.environ, *, start: Path | None = None) -> Configuration:
    """Read all layers.

    Args:
        environment: Only looked at for names and for HINDSIGHT_HOME and HINDSIGHT_CONFIG; values are read by pydantic
            from the environment of the process.
        start: Where the search for hindsight.toml begins; the current folder when None.
    Raises:
        ConfigurationError: A setting is unknown or impossible; the message names it and where it came from.
    """
    refuse_unknown_variables(environment)
    home = find_home(environment, start)
    file = find_file(environment, start)
    layers = {
        "environment": _read_variables(),
        "file": _read_file(file) if file is not None else {},
        "stack": stack_layer(home),
    }
    merged: dict[str, Any] = {}
    for layer in reversed(layers.values()):
        merged = _over(layer, merged)
    try:
        settings = Settings(**merged)
    except ValidationError as exc:
        raise _refusal(exc, layers, file) from None
    return Configuration(settings=settings, origins=tuple(_origins(settings, layers, file)), file=file, home=home)


def setting_names(model: type[BaseModel] = Settings) -> Iterator[str]:
    """The dotted name of every setting, such as "kafka.bootstrap_servers"."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{name}.{inner}" for inner in setting_names(field.annotation))
        else:
            yield name


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.upper().replace(".", NESTING)


def refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Every variable with our prefix must be a setting, a group of settings, or one of the few others.

    Raises:
        ConfigurationError: One is not; it names the nearest that exists.
    """
    names = {variable_of(name) for name in setting_names()}
    groups = {variable_of(name.partition(".")[0]) for name in setting_names()}
    open_ended = variable_of("stack.ports") + NESTING
    known = names | groups | NOT_SETTINGS
    for variable in sorted(environment):
        upper = variable.upper()
        if upper.startswith(ENVIRONMENT_PREFIX) and upper not in known and not upper.startswith(open_ended):
            raise ConfigurationError(
                f"the environment variable {variable} is no setting", setting=variable, do=_nearest(upper, known, "unset it")
            )


def find_file(environment: Mapping[str, str], start: Path | None = None) -> Path | None:
    """HINDSIGHT_CONFIG, or the nearest hindsight.toml from `start` upwards; None when there is none."""
    if given := environment.get("HINDSIGHT_CONFIG"):
        path = given_path(given, "HINDSIGHT_CONFIG")
        if not path.is_file():
            raise ConfigurationError(f"there is no file {path}", setting="HINDSIGHT_CONFIG", do="correct HINDSIGHT_CONFIG")
        return path
    here = (start or Path.cwd()).resolve()
    return next((path for folder in (here, *here.parents) if (path := folder / FILE_NAME).is_file()), None)


def stack_layer(home: Path) -> dict[str, Any]:
    """What the local stack at `home` recorded about its endpoints, as settings; empty when it is down."""
    layout = Layout(home)
    state = read_state(layout.state_file)
    plan = read_plan(layout.plan_file)
    if plan is None or state is None or not state.is_supervised:
        return {}
    layer = {**as_settings(plan.endpoints), **ours.as_settings(plan.ports)}
    if "triton" in layer:
        layer["triton"] = {**layer["triton"], "repository": str(layout.model_repository)}
    return layer


def as_settings(endpoints: Endpoints) -> dict[str, Any]:
    """Endpoints under the names that the settings have for them; empty ones are left out."""
    named = {
        "kafka": {"bootstrap_servers": endpoints.kafka_bootstrap},
        "registry": {"url": endpoints.registry_url},
        "redis": {"url": endpoints.redis_url},
        "s3": {
            "endpoint": endpoints.s3_endpoint,
            "access_key": endpoints.s3_access_key,
            "secret_key": endpoints.s3_secret_key,
        },
        "triton": {"endpoints": endpoints.triton_grpc},
    }
    return {
        group: {key: value for key, value in values.items() if value} for group, values in named.items() if any(values.values())
    }


def _read_variables() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings)()
    except (SettingsError, RecursionError) as exc:
        group = next((name for name in Settings.model_fields if f'"{name}"' in str(exc)), "")
        variable = variable_of(group) if group else ENVIRONMENT_PREFIX
        raise ConfigurationError(
            f"{variable} is not JSON, which a whole group in one variable has to be",
            setting=variable,
            do=f"set one setting a variable, such as {variable_of('kafka.partitions')}",
        ) from exc


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"{path}: {exc}", setting=str(path), do="correct the file; it is TOML") from exc


def _over(upper: Layer, lower: Layer) -> dict[str, Any]:
    """The lower layer with the upper one laid over it, group by group."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _over(value, below) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def _origins(settings: Settings, layers: Mapping[str, Layer], file: Path | None) -> Iterator[Origin]:
    for name in sorted(setting_names()):
        value: Any = settings
        for part in name.split("."):
            value = getattr(value, part)
        yield Origin(name, _shown(value), _source(name, layers, file))


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    return list(value) if isinstance(value, tuple) else value


def _source(name: str, layers: Mapping[str, Layer], file: Path | None) -> str:
    words = {"environment": f"environment {variable_of(name)}", "file": f"file {file}", "stack": "local stack"}
    return next((words[layer] for layer, values in layers.items() if _has(values, name)), "default")


def _has(layer: Layer, name: str) -> bool:
    value: Any = layer
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _refusal(exc: ValidationError, layers: Mapping[str, Layer], file: Path | None) -> ConfigurationError:
    """One error that names every refused setting and its origin. Values are left out: one may be a secret."""
    lines, first, advice = [], "", ""
    for error in exc.errors(include_url=False, include_input=False, include_context=False):
        known = set(setting_names())
        name = ".".join(str(part) for part in error["loc"])
        # Inside a list or a map the location goes deeper than the setting.
        setting = next((one for one in known if name == one or name.startswith(f"{one}.")), name)
        reason = error["msg"].removeprefix("Value error, ")
        # A rule about several groups has no location; its message begins with the first setting it is about.
        first = first or setting or reason.partition(" ")[0]
        if error["type"] == "extra_forbidden":
            reason = "is no setting"
            advice = advice or _nearest(name, known, f"remove it from {file or 'the environment'}")
        origin = f" (from {_source(setting, layers, file)})" if setting and _has_anywhere(layers, setting) else ""
        lines.append(f"{setting}{origin}: {reason}" if setting else reason)
    return ConfigurationError("; ".join(lines), setting=first, do=advice or "hindsight config show prints what is in force")


def _has_anywhere(layers: Mapping[str, Layer], name: str) -> bool:
    return any(_has(layer, name) for layer in layers.values())


def _nearest(name: str, known: set[str] | frozenset[str], otherwise: str) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}? if not, {otherwise}" if close else otherwise
