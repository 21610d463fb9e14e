"""LocalStack: the real servers as local processes, from Python. The command line and the tests are built on it.

    with LocalStack(home, servers=("redis", "s3"), ports="free", owned=True) as stack:
        stack.endpoints.redis_url

`up` installs what is missing, chooses ports, hands a plan to the supervisor and waits until all is ready or one has
failed, within a bounded time. `down` leaves no process behind, also those of a supervisor that was killed.
"""

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from schemas.errors import ConfigurationError
from topology.stack import install, plan, processes
from topology.stack.layout import Layout
from topology.stack.processes import ProcessKey, key_of
from topology.stack.programs import Backoff, Program
from topology.stack.state import Endpoints, Plan, ProgramState, StackState, read_plan, write_plan
from topology.stack.supervision import Say, StackError, Supervision, is_ready

__all__ = ["LocalStack", "StackError"]


class LocalStack:
    """One local stack, known by its home folder. Making this object starts nothing.

    Args:
        home: Folder of the stack (`layout.find_home()` for the one in force).
        servers: Which servers belong to it.
        ports: "default" takes the default ports and a free one for each that is taken; "free" takes free ones only, for
            stacks beside another; a range says where to look for free ones.
        fixed_ports: Ports by listener ("kafka", "s3.filer") that must be these.
        servers_folder: Where servers are installed; a stack in a temporary home shares the checkout's.
        programs: Programs of our own to run with the servers.
        triton_load: Models that Triton loads before it is ready.
        owned: The stack stops when this process is gone, however it went.
        say: Gets progress lines.
    """

    def __init__(
        self,
        home: Path,
        servers: Iterable[str] = plan.SERVERS,
        *,
        ports: Literal["default", "free"] | range = "default",
        fixed_ports: Mapping[str, int] | None = None,
        servers_folder: Path | None = None,
        programs: Sequence[Program] = (),
        triton_load: Sequence[str] = (),
        owned: bool = False,
        backoff: Backoff | None = None,
        watch_every_s: float = 10.0,
        say: Say = lambda line: None,
    ) -> None:
        self.layout = Layout(home.resolve())
        self.servers = plan.check_names(servers)
        self._ports = ports
        self._fixed_ports = plan.check_ports(fixed_ports or {})
        self._installed = (servers_folder or self.layout.servers).resolve()
        self._programs = tuple(programs)
        self._triton_load = tuple(triton_load)
        self._owner = key_of(os.getpid()) if owned else None
        self._backoff = backoff
        self._watch_every_s = watch_every_s
        self._say = say
        self._supervision = Supervision(self.layout, say)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.down()

    @property
    def endpoints(self) -> Endpoints:
        """Where the servers are.

        Raises:
            ConfigurationError: The stack was never up.
        """
        return self._supervision.plan().endpoints

    def state(self) -> StackState | None:
        """What the supervisor last wrote; None when the stack is down."""
        return self._supervision.state()

    def program_state(self, name: str) -> ProgramState:
        """The state of one program of a running stack."""
        state = self.state()
        found = state.of(name) if state is not None else None
        if found is None:
            raise ConfigurationError(f"{name} is not part of the running stack", do="hindsight status lists what runs")
        return found

    def up(self) -> bool:
        """Bring everything up and wait until it is ready; false when all was ready already.

        Raises:
            StackError: A program failed; what this call started is stopped again.
            ConfigurationError: Something is not installed, or a port that must be used is taken.
        """
        self.layout.make()
        install.install(self.servers, self._installed, say=self._say, log_folder=self.layout.logs)
        with self._turn():
            running = self.state()
            old = read_plan(self.layout.plan_file)
            if running is not None and old is not None:
                return self._bring_up_missing(old)
            self._supervision.sweep(old)
            write_plan(self.layout.plan_file, self._new_plan(old))
            self._supervision.begin()
            try:
                self._supervision.wait_ready(self._supervision.plan().programs)
            except BaseException:
                self._supervision.end()
                raise
            return True

    def down(self) -> bool:
        """Stop everything; false when nothing ran. No process of the stack is left when it returns.

        Raises:
            StackError: A process could not be ended.
        """
        if not self.layout.run.exists():
            return False
        with self._turn():
            return self._supervision.end()

    def start(self, programs: Iterable[Program]) -> None:
        """Add programs to a running stack, or replace those of the same name, and wait until they are ready."""
        wanted = tuple(programs)
        with self._turn():
            self._extend(self._supervision.plan(), wanted)
            self._supervision.wait_ready(wanted)

    def stop(self, names: Iterable[str]) -> None:
        """Take programs out of a running stack and wait until they have ended."""
        gone = set(names)
        with self._turn():
            old = self._supervision.plan()
            self._change(old, tuple(program for program in old.programs if program.name not in gone))
            limit_s = 10 + sum(program.stop_grace_s for program in old.programs if program.name in gone)
            self._supervision.wait(lambda state: not any(state.of(name) for name in gone), limit_s, f"stopping {sorted(gone)}")

    def restart(self, name: str) -> None:
        """Stop a program of the running stack and start it again; returns when it is ready."""
        found = next((program for program in self._supervision.plan().programs if program.name == name), None)
        if found is None:
            raise ConfigurationError(f"{name} is not part of the running stack", do="hindsight status names the parts")
        self.start([found.again()])

    def kill(self, name: str) -> ProcessKey:
        """SIGKILL a program's process, as a fault would, and return once it is dead; the supervisor starts it again."""
        key = self.program_state(name).process
        if key is None:
            raise ConfigurationError(f"{name} does not run", do="hindsight logs says why it ended")
        processes.send([key], signal.SIGKILL)
        processes.wait_gone([key], timeout_s=5.0)
        return key

    def wait_ready(self, name: str, *, timeout_s: float = 60.0) -> ProgramState:
        """Wait until a program is ready, for instance after its process was killed.

        Raises:
            StackError: It was not ready in time.
        """
        self._supervision.wait(lambda state: is_ready(state, name), timeout_s, f"waiting for {name}")
        return self.program_state(name)

    def _new_plan(self, old: Plan | None) -> Plan:
        chosen = plan.choose_ports(
            self.servers,
            fixed=self._fixed_ports,
            last=old.ports if old is not None else {},
            use_defaults=self._ports == "default",
            **({"among": self._ports} if isinstance(self._ports, range) else {}),
        )
        return plan.make_plan(
            self.layout,
            self.servers,
            chosen,
            installed=self._installed,
            extra=self._programs,
            triton_load=self._triton_load,
            owner=self._owner,
            backoff=self._backoff,
            watch_every_s=self._watch_every_s,
        )

    def _bring_up_missing(self, old: Plan) -> bool:
        """On a running stack: start what is not in its plan yet, and what failed."""
        for listener, port in self._fixed_ports.items():
            if old.ports.get(listener, port) != port:
                raise ConfigurationError(
                    f"the running stack has {listener} on {old.ports[listener]}, not {port}",
                    setting=f"stack.ports.{listener}",
                    do="run `hindsight down` first",
                )
        state = self.state()
        have = {program.name for program in old.programs}
        servers = tuple(name for name in self.servers if name not in have)
        again = tuple(
            program.again()
            for program in old.programs
            if state is not None and (one := state.of(program.name)) is not None and one.condition == "failed"
        )
        extra = tuple(program for program in self._programs if program.name not in have)
        if servers:
            chosen = plan.choose_ports(servers, fixed=self._fixed_ports, last=old.ports, use_defaults=self._ports == "default")
            grown = plan.make_plan(
                self.layout, (*have & set(plan.PROGRAMS), *servers), {**old.ports, **chosen}, installed=self._installed
            )
            old = replace(old, endpoints=grown.endpoints, ports=grown.ports)
            extra = (*(program for program in grown.programs if program.name in servers), *extra)
        if again or extra:
            self._extend(old, (*again, *extra))
        self._supervision.wait_ready(self._supervision.plan().programs, quiet=not (again or extra))
        return bool(again or extra)

    def _extend(self, old: Plan, programs: tuple[Program, ...]) -> None:
        names = {program.name for program in programs}
        kept = tuple(program for program in old.programs if program.name not in names)
        self._change(old, (*kept, *programs))

    def _change(self, old: Plan, programs: tuple[Program, ...]) -> None:
        write_plan(self.layout.plan_file, replace(old, programs=programs, revision=old.revision + 1))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with self.layout.command_lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
