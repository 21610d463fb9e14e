"""What is written down about a running stack, so that other processes know where everything is and how it does.

Two files in the run folder, each replaced in one step so that no reader sees half of one: the *plan* (what should run,
written by `local.py`) and the *state* (what does run, written by the supervisor). Readers: `hindsight status`, the
settings (`topology/settings.py`), the tests.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from topology.stack.processes import ProcessKey, is_alive
from topology.stack.programs import Backoff, Program

Condition = Literal["waiting", "starting", "ready", "unresponsive", "backing off", "failed", "stopping", "ended", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where the servers are, as clients want it; empty for a server that is not in the stack."""

    kafka_bootstrap: str = ""
    registry_url: str = ""
    redis_url: str = ""
    s3_endpoint: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = field(default="", repr=False)
    triton_grpc: str = ""
    triton_http: str = ""
    triton_metrics: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What should run. `owner`: when this process is gone, the stack stops itself (tests); None runs until `down`.

    `revision` grows with every change, so that who changed the plan can tell when the supervisor has taken it up.
    """

    programs: tuple[Program, ...]
    endpoints: Endpoints
    ports: Mapping[str, int]
    revision: int = 0
    owner: ProcessKey | None = None
    backoff: Backoff = field(default_factory=Backoff)
    watch_every_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended; `code` is negative for a signal, as in subprocess."""

    code: int
    at_us: int
    last_lines: tuple[str, ...]

    @property
    def words(self) -> str:
        return f"killed by signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramState:
    """One program as the supervisor sees it. `detail` says why it is not ready; `ready_after_s` counts from its start."""

    name: str
    condition: Condition
    process: ProcessKey | None
    ports: Mapping[str, int]
    restarts: int
    started_at_us: int | None
    ready_after_s: float | None
    detail: str
    last_exit: Exit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """The whole stack under one revision of the plan. When `supervisor`, which wrote this, is gone, it is history."""

    supervisor: ProcessKey
    revision: int
    programs: tuple[ProgramState, ...]

    @property
    def is_supervised(self) -> bool:
        return is_alive(self.supervisor)

    def of(self, name: str) -> ProgramState | None:
        return next((program for program in self.programs if program.name == name), None)


def write_json(path: Path, value: Any, *, mode: int = 0o600) -> None:
    """Replace a file in one step; only its owner may read it, since plans hold credentials."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as out:
        json.dump(value, out, indent=1, sort_keys=True)
    draft.replace(path)


def write_plan(path: Path, plan: Plan) -> None:
    write_json(path, asdict(plan))


def read_plan(path: Path) -> Plan | None:
    """The plan; None when there is no readable one."""
    value = _read_json(path)
    if value is None:
        return None
    return Plan(
        programs=tuple(Program.from_json(program) for program in value["programs"]),
        endpoints=Endpoints(**value["endpoints"]),
        ports=value["ports"],
        revision=value["revision"],
        owner=_key(value["owner"]),
        backoff=Backoff(**value["backoff"]),
        watch_every_s=value["watch_every_s"],
    )


def write_state(path: Path, state: StackState) -> None:
    write_json(path, asdict(state))


def read_state(path: Path) -> StackState | None:
    """The last state written; None when there is no readable one."""
    value = _read_json(path)
    if value is None:
        return None
    supervisor = _key(value["supervisor"])
    if supervisor is None:
        return None
    programs = tuple(_program_state(one) for one in value["programs"])
    return StackState(supervisor=supervisor, revision=value["revision"], programs=programs)


def _program_state(value: dict[str, Any]) -> ProgramState:
    exit_value = value["last_exit"]
    last_exit = None if exit_value is None else Exit(**{**exit_value, "last_lines": tuple(exit_value["last_lines"])})
    return ProgramState(**{**value, "process": _key(value["process"]), "last_exit": last_exit})


def _key(value: dict[str, int] | None) -> ProcessKey | None:
    return None if value is None else ProcessKey(**value)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
