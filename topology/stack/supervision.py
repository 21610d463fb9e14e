"""One stack's supervisor seen from outside: begun, waited for, ended, and cleaned up after.

The supervisor is another process, known by the files of the run folder; so is what it left when it was killed. `local.py`
decides what should run; this module sees it through, always within a bounded time.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import topology
from schemas.errors import ConfigurationError, TransientError
from topology.stack import processes
from topology.stack.child import remove_leavings
from topology.stack.layout import Layout
from topology.stack.logs import tail
from topology.stack.processes import ProcessKey, is_alive
from topology.stack.programs import Program
from topology.stack.state import Plan, ProgramState, StackState, read_plan, read_state

_POLL_S = 0.05
_SUPERVISOR_START_S = 15.0
Say = Callable[[str], None]


class StackError(TransientError):
    """A server of the local stack did not get ready, or did not stop; the message has its last log lines."""


class Supervision:
    """The supervisor of one home, and the processes that it started."""

    def __init__(self, layout: Layout, say: Say) -> None:
        self._layout = layout
        self._say = say

    def state(self) -> StackState | None:
        """What the supervisor last wrote; None when the stack is down."""
        state = read_state(self._layout.state_file)
        return state if state is not None and state.is_supervised else None

    def plan(self) -> Plan:
        """What should run.

        Raises:
            ConfigurationError: The stack was never up.
        """
        found = read_plan(self._layout.plan_file)
        if found is None:
            raise ConfigurationError("the local stack was never up", do="hindsight up")
        return found

    def begin(self) -> None:
        root = str(Path(topology.__file__).resolve().parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._layout.state_file.unlink(missing_ok=True)
        log = self._layout.log("supervisor")
        with log.open("ab") as out:
            subprocess.run(
                [sys.executable, "-m", "topology.stack.supervisor", str(self._layout.home)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._layout.home,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                check=True,
            )
        deadline = time.monotonic() + _SUPERVISOR_START_S
        while self.state() is None:
            if time.monotonic() > deadline:
                raise StackError("the supervisor did not start" + _quoted(tail(log, 20)))
            time.sleep(_POLL_S)

    def wait_ready(self, programs: tuple[Program, ...], *, quiet: bool = False) -> None:
        """Until each program is ready (or, a job, has ended well); says each as it gets there."""
        limit_s = 10 + _longest_chain_s(programs)
        pending = {program.name: program for program in programs}

        def done(state: StackState) -> bool:
            for name, program in sorted(pending.items()):
                one = state.of(name)
                if one is None:
                    continue
                if one.condition == "failed":
                    raise StackError(
                        f"{name} failed: {one.detail}" + _quoted(self._last_lines(one)),
                        do=f"read {self._layout.log(name)}, then try again",
                    )
                if is_ready(state, name) or one.condition == "ended":
                    del pending[name]
                    if not quiet:
                        self._say(_ready_line(one, program))
            return not pending

        self.wait(done, limit_s, "waiting until all is ready")

    def wait(self, done: Callable[[StackState], bool], limit_s: float, what: str) -> None:
        revision, deadline = self.plan().revision, time.monotonic() + limit_s
        while True:
            state = self.state()
            if state is None:
                log = self._layout.log("supervisor")
                raise StackError(f"{what}: the supervisor is gone" + _quoted(tail(log, 20)), do=f"read {log}")
            if state.revision >= revision and done(state):
                return
            if time.monotonic() > deadline:
                late = {one.name: f"{one.condition} {one.detail}" for one in state.programs if not is_ready(state, one.name)}
                raise StackError(f"{what}: not done after {limit_s:.0f} s: {late}")
            time.sleep(_POLL_S)

    def end(self) -> bool:
        old, state = read_plan(self._layout.plan_file), self.state()
        found = False
        if state is not None:
            found = True
            limit_s = 5 + sum(program.stop_grace_s for program in (old.programs if old else ()))
            processes.send([state.supervisor], signal.SIGTERM)
            if not processes.wait_gone([state.supervisor], timeout_s=limit_s):
                processes.kill(lambda: [state.supervisor] if is_alive(state.supervisor) else [])
        found = self.sweep(old) or found
        self._layout.state_file.unlink(missing_ok=True)
        return found

    def sweep(self, old: Plan | None) -> bool:
        """End what a supervisor that did not stop in order left running; true when there was any."""
        left = self._leftovers()
        if left:
            self._say(f"stopping {len(left)} processes that were left running")
            grace_s = max([program.stop_grace_s for program in (old.programs if old else ())], default=10.0)
            if not processes.stop(self._leftovers, grace_s=grace_s):
                raise StackError(f"processes {[key.pid for key in self._leftovers()]} do not end")
        for program in old.programs if old is not None and left else ():
            remove_leavings(program)
        return bool(left)

    def _leftovers(self) -> list[ProcessKey]:
        state = read_state(self._layout.state_file)
        recorded = [one.process for one in state.programs if one.process is not None] if state is not None else []
        found = {key for key in recorded if is_alive(key)} | set(processes.marked(self._layout.home))
        return sorted(found, key=lambda key: key.pid)

    def _last_lines(self, one: ProgramState) -> tuple[str, ...]:
        return one.last_exit.last_lines if one.last_exit is not None else tail(self._layout.log(one.name), 20)


def is_ready(state: StackState, name: str) -> bool:
    one = state.of(name)
    return one is not None and one.condition == "ready" and is_alive(one.process)


def _longest_chain_s(programs: tuple[Program, ...]) -> float:
    """Seconds that the slowest chain of needs may take, all its attempts counted."""
    by_name = {program.name: program for program in programs}

    def chain_s(program: Program) -> float:
        own_s = program.ready_timeout_s * program.start_attempts
        return own_s + max((chain_s(by_name[need]) for need in program.needs if need in by_name), default=0.0)

    return max((chain_s(program) for program in programs), default=0.0)


def _ready_line(one: ProgramState, program: Program) -> str:
    where = ", ".join(f"{name} 127.0.0.1:{port}" for name, port in program.ports.items() if name.count(".") == 0)
    where = where or ", ".join(f"{name} 127.0.0.1:{port}" for name, port in program.ports.items())
    took = f"ready in {one.ready_after_s:.1f} s" if one.ready_after_s is not None else one.condition
    return f"{one.name:<10} {took:<16} {where}".rstrip()


def _quoted(lines: Sequence[str]) -> str:
    return "".join(f"\n  | {line}" for line in lines)
