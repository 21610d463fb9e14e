"""One program under supervision: its process, its condition, when it starts again.

The steps of its life, moved on by `tick()` in the supervisor's only acting thread:

    waiting -> starting -> ready <-> unresponsive
                  |          |
                  v          v
                failed   backing off -> starting      any -> stopping -> stopped

Probes run in a thread pool and are only looked at here. The supervisor (`supervisor.py`) decides who may start and who
must stop.
"""

import contextlib
import glob
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path

from topology.stack import launch, processes
from topology.stack.logs import rotate, tail
from topology.stack.processes import MARK, ProcessKey, key_of, send, session_members
from topology.stack.programs import Backoff, Program
from topology.stack.state import Condition, Exit, ProgramState

_IMPATIENT_S = 1.0
_PROBE_EVERY_S = 0.1
_LAST_LINES = 20


def remove_leavings(program: Program) -> None:
    """Remove what a program that has ended left behind."""
    for pattern in program.remove_after_stop:
        for path in glob.glob(pattern):
            with contextlib.suppress(OSError):
                os.unlink(path)


class Child:
    """Owns at most one process (its own session) of one Program at a time."""

    def __init__(
        self,
        program: Program,
        *,
        log: Path,
        environment: Mapping[str, str],
        backoff: Backoff,
        watch_every_s: float,
        threads: Executor,
        say: Callable[[str], None],
    ) -> None:
        self.program = program
        self.condition: Condition = "waiting"
        self._log = log
        inherited = environment if program.inherits_environment else {MARK: environment[MARK]}
        self._environment = {**inherited, **program.environment}
        self._backoff = backoff
        self._watch_every_s = watch_every_s
        self._threads = threads
        self._say = say
        self._popen: subprocess.Popen[bytes] | None = None
        self._key: ProcessKey | None = None
        self._started_s = self._next_start_s = self._next_probe_s = self._ready_since_s = 0.0
        self._started_at_us: int | None = None
        self._stop_deadline_s = 0.0
        self._probing: Future[None] | None = None
        self._probe_failures = 0
        self._ready_after_s: float | None = None
        self._was_ever_ready = False
        self._failures_in_a_row = 0
        self._restarts = 0
        self._detail = ""
        self._last_exit: Exit | None = None

    @property
    def is_settled(self) -> bool:
        """Nothing of it runs and nothing will."""
        return self.condition in ("stopped", "ended", "failed")

    @property
    def is_ready(self) -> bool:
        return self.condition in ("ready", "unresponsive")

    def state(self) -> ProgramState:
        return ProgramState(
            name=self.program.name,
            condition=self.condition,
            process=self._key,
            ports=self.program.ports,
            restarts=self._restarts,
            started_at_us=self._started_at_us,
            ready_after_s=self._ready_after_s,
            detail=self._detail,
            last_exit=self._last_exit,
        )

    def tick(self, *, may_start: bool) -> None:
        """Move on by what has happened since the last call; never blocks."""
        now_s = time.monotonic()
        match self.condition:
            case "waiting" if may_start:
                self._start(now_s)
            case "backing off" if may_start and now_s >= self._next_start_s:
                self._restarts += 1
                self._start(now_s)
            case "starting" | "ready" | "unresponsive":
                self._watch(now_s)
            case "stopping":
                self._watch_stopping(now_s)
            case _:
                pass

    def stop(self) -> None:
        """Ask it to end; `tick` sees it through."""
        if self.condition in ("stopping", "stopped", "ended"):
            return
        if self._popen is None:
            self._become("stopped" if self.condition != "failed" else "failed")
            return
        self._become("stopping")
        self._stop_deadline_s = time.monotonic() + self.program.stop_grace_s
        send([key for key in (self._key,) if key is not None], signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL everything in its session; hardly ever takes more than an instant."""
        if self._popen is not None:
            session = self._popen.pid
            processes.kill(lambda: session_members(session), timeout_s=1.0)

    def _orphan_signal(self) -> signal.Signals:
        """What ends the program when the supervisor is gone: nobody is there then to ask a second time, less politely."""
        return signal.SIGKILL if self.program.stop_grace_s <= _IMPATIENT_S else signal.SIGTERM

    def _start(self, now_s: float) -> None:
        rotate(self._log)
        command = [sys.executable, "-I", "-S", launch.__file__, f"{os.getpid()}:{int(self._orphan_signal())}", *self.program.argv]
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.program.working_folder or self._log.parent.parent,
                env=self._environment,
                start_new_session=True,
            )
        self._key = key_of(self._popen.pid)
        self._started_s, self._started_at_us = now_s, time.time_ns() // 1000
        self._ready_after_s, self._probing, self._next_probe_s = None, None, now_s
        self._become("starting")

    def _watch(self, now_s: float) -> None:
        if self._popen is None:
            return
        code = self._popen.poll()
        if code is not None:
            self._ended(code, now_s)
        elif self._probe_says(now_s):
            if not self.is_ready:
                self._ready_after_s, self._ready_since_s = now_s - self._started_s, now_s
                self._was_ever_ready = True
            if self.condition != "ready":
                self._become("ready")
        elif self.condition == "starting" and now_s - self._started_s > self.program.ready_timeout_s:
            self._say(f"{self.program.name}: not ready after {self.program.ready_timeout_s:.0f} s: {self._detail}")
            self.kill()
            self._ended(self._popen.wait(), now_s, why=f"not ready after {self.program.ready_timeout_s:.0f} s")
        elif self.condition == "ready" and self._probe_failures >= 2:
            self._become("unresponsive", self._detail)

    def _probe_says(self, now_s: float) -> bool:
        """Ask when it is time; true on a fresh yes. A missing probe means that running is ready."""
        if self.program.probe is None:
            return self.condition == "starting"
        if self._probing is None:
            if now_s >= self._next_probe_s:
                self._probing = self._threads.submit(self.program.probe.resolve())
            return False
        if not self._probing.done():
            return False
        answer, self._probing = self._probing.exception(), None
        self._next_probe_s = now_s + (_PROBE_EVERY_S if self.condition == "starting" else self._watch_every_s)
        self._detail = "" if answer is None else f"{type(answer).__name__}: {answer}"
        self._probe_failures = 0 if answer is None else self._probe_failures + 1
        return answer is None

    def _ended(self, code: int, now_s: float, *, why: str = "") -> None:
        self._forget_process(code)
        if self.program.restart == "never" and code == 0:
            self._become("ended")
            return
        steady = self._was_ever_ready and self._ready_since_s and now_s - self._ready_since_s > self._backoff.steady_s
        self._failures_in_a_row = 1 if steady else self._failures_in_a_row + 1
        self._ready_since_s = 0.0
        words = why or (self._last_exit.words if self._last_exit else "")
        gives_up = not self._was_ever_ready and (why or self._failures_in_a_row >= self.program.start_attempts)
        if gives_up or self.program.restart == "never":
            self._become("failed", words)
            return
        wait_s = self._backoff.wait_s(self._failures_in_a_row)
        self._next_start_s = now_s + wait_s
        self._become("backing off", f"{words}; starts again after {wait_s:g} s")

    def _watch_stopping(self, now_s: float) -> None:
        if self._popen is None:
            return
        code = self._popen.poll()
        members = session_members(self._popen.pid)
        if code is not None and not members:
            self._forget_process(code)
            self._become("stopped")
        elif now_s > self._stop_deadline_s or code is not None:
            # The leader ended and left others of its session behind, or the time is up.
            send(members, signal.SIGKILL)

    def _forget_process(self, code: int) -> None:
        self.kill()
        self._last_exit = Exit(code=code, at_us=time.time_ns() // 1000, last_lines=tail(self._log, _LAST_LINES))
        self._popen = self._key = self._probing = None
        remove_leavings(self.program)

    def _become(self, condition: Condition, detail: str = "") -> None:
        self._say(f"{self.program.name}: {condition}{': ' + detail if detail else ''}")
        self.condition, self._detail = condition, detail
