"""What one supervised process is, as plain values that go to the supervisor through a JSON file.

A `Program` names its command, what must be ready before it, how to ask whether it is ready, and what to do when it ends.
The servers of the stack are Programs, and so are our own processes (gateway, workers): the supervisor
(`supervisor.py`) sees no difference. Programs are made by `servers/` and by whoever adds processes to a stack.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A readiness question: a function that returns when the answer is yes and raises OSError or ValueError otherwise.

    `target` is "module:function", importable by the supervisor; `arguments` are its keyword arguments, JSON values only.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> Callable[[], None]:
        """The question as a call without arguments; the import happens here, in the process that asks."""
        module, _, name = self.target.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as exc:
            raise ConfigurationError(f"probe {self.target} cannot be imported: {exc}", do="install the packages again") from exc
        return lambda: function(**self.arguments)


def http_probe(url: str) -> Probe:
    """Ready when a GET answers 2xx."""
    return Probe(target="topology.stack.probes:http_answers", arguments={"url": url})


def port_probe(port: int) -> Probe:
    """Ready when 127.0.0.1 accepts a connection on the port."""
    return Probe(target="topology.stack.probes:port_accepts", arguments={"port": port})


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One supervised process.

    Args:
        name: Unique in the stack; also the name of its log file.
        argv: Command and arguments. It must stay in the foreground.
        environment: Added to the supervisor's own environment, or all of it if not `inherits_environment`.
        ports: Listeners by name, for people and for `status`; the program itself gets them in argv or settings.
        needs: Programs that must be ready before this one starts, and that are stopped after it.
        probe: Readiness question; None means that running is ready.
        ready_timeout_s: From its start to ready; longer counts as a failed start.
        start_attempts: Failed starts in a row, before it was ever ready, after which it is given up.
        restart: "always": started again with backoff when it ends; "never": its end is final (a one-off job).
        stop_grace_s: Between SIGTERM and SIGKILL.
        remove_after_stop: Glob patterns of what the process leaves behind (sockets, shared memory) when it has ended.
        generation: Raise it to make the supervisor restart the program.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    inherits_environment: bool = True
    working_folder: str | None = None
    ports: Mapping[str, int] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    probe: Probe | None = None
    ready_timeout_s: float = 60.0
    start_attempts: int = 3
    restart: Literal["always", "never"] = "always"
    stop_grace_s: float = 10.0
    remove_after_stop: tuple[str, ...] = ()
    generation: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Program":
        fields = dict(value)
        for name in ("argv", "needs", "remove_after_stop"):
            fields[name] = tuple(fields[name])
        if fields["probe"] is not None:
            fields["probe"] = Probe(**fields["probe"])
        return cls(**fields)

    def again(self) -> "Program":
        """The same program, to be restarted once."""
        return replace(self, generation=self.generation + 1)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before start number n after a crash: doubling from `first_s` up to `longest_s`.

    A program that stayed ready for `steady_s` starts again at `first_s`.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    steady_s: float = 60.0

    def wait_s(self, failures_in_a_row: int) -> float:
        return min(self.longest_s, self.first_s * 2.0 ** max(0, failures_in_a_row - 1))
