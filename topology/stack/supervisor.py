"""The one process that starts, watches, restarts and stops the programs of a stack.

It makes the running processes equal to the plan file, looked at again whenever it changes: a program that is new there
is started after what it needs, one that is gone is stopped, one that differs is stopped and started. SIGTERM stops
everything, in reverse order of need, within the sum of the stop times. What it sees goes to the state file.

Guarantees: one supervisor per home (a lock); every program in a session of its own, tied to the supervisor's life; no
crash of a program ends it. Started by `local.py` as `python -m topology.stack.supervisor HOME`; it detaches itself.
"""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from topology.stack.child import Child
from topology.stack.layout import Layout
from topology.stack.logs import rotate
from topology.stack.processes import MARK, is_alive, key_of
from topology.stack.programs import Program
from topology.stack.state import Plan, StackState, read_plan, write_state

_TICK_S = 0.05
_PROBE_THREADS = 8


class Supervisor:
    """Runs the plan of one home until it is told to stop or its owner is gone."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._key = key_of(os.getpid())
        self._threads = ThreadPoolExecutor(_PROBE_THREADS, thread_name_prefix="probe")
        self._children: dict[str, Child] = {}
        self._plan: Plan | None = None
        self._plan_stamp = (0, 0)
        self._is_stopping = False
        self._written: StackState | None = None
        self._environment = {**os.environ, MARK: str(layout.home), "HINDSIGHT_HOME": str(layout.home)}

    def run(self) -> None:
        """Until everything has stopped."""
        signal.signal(signal.SIGTERM, self._stop_soon)
        signal.signal(signal.SIGINT, self._stop_soon)
        while not (self._is_stopping and all(child.is_settled for child in self._children.values())):
            if not self._is_stopping:
                self._follow_plan()
                if self._plan is not None and self._plan.owner is not None and not is_alive(self._plan.owner):
                    _say("the owner is gone")
                    self._is_stopping = True
            self._tick()
            self._write_state()
            time.sleep(_TICK_S)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _stop_soon(self, number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True

    def _follow_plan(self) -> None:
        try:
            stat = self._layout.plan_file.stat()
        except OSError:
            return
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp == self._plan_stamp:
            return
        self._plan_stamp = stamp
        plan = read_plan(self._layout.plan_file)
        if plan is not None:
            self._plan = plan

    def _tick(self) -> None:
        wanted = self._wanted()
        for name, child in list(self._children.items()):
            if wanted.get(name) != child.program and self._nothing_needs(name):
                child.stop()
                if child.is_settled:
                    del self._children[name]
        for name, program in wanted.items():
            if name not in self._children:
                self._children[name] = self._child_of(program)
        for name, child in self._children.items():
            needs_are_ready = all(self._is_ready(need) for need in child.program.needs)
            child.tick(may_start=needs_are_ready and wanted.get(name) == child.program)
            rotate(self._layout.log(name))

    def _wanted(self) -> Mapping[str, Program]:
        if self._plan is None or self._is_stopping:
            return {}
        return {program.name: program for program in self._plan.programs}

    def _nothing_needs(self, name: str) -> bool:
        """Whether all that need the program are leaving or gone; a mere restart of a server does not stop its clients."""
        if name in self._wanted():
            return True
        return all(child.is_settled for child in self._children.values() if name in child.program.needs)

    def _is_ready(self, name: str) -> bool:
        child = self._children.get(name)
        return child is not None and child.is_ready

    def _child_of(self, program: Program) -> Child:
        assert self._plan is not None
        return Child(
            program,
            log=self._layout.log(program.name),
            environment=self._environment,
            backoff=self._plan.backoff,
            watch_every_s=self._plan.watch_every_s,
            threads=self._threads,
            say=_say,
        )

    def _write_state(self) -> None:
        assert self._key is not None
        programs = tuple(self._children[name].state() for name in sorted(self._children))
        revision = self._plan.revision if self._plan is not None else -1
        state = StackState(supervisor=self._key, revision=revision, programs=programs)
        if state != self._written:
            write_state(self._layout.state_file, state)
            self._written = state


def _say(line: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{stamp} {line}", file=sys.stderr, flush=True)


def main(home: Path) -> int:
    """Detach, take the lock, run; 1 when another supervisor holds the lock."""
    if os.fork() > 0:
        # The process that asked waits for this one only; init becomes the parent of the real one.
        os._exit(0)
    os.setsid()
    layout = Layout(home)
    lock = layout.supervisor_lock.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say("another supervisor runs")
        return 1
    layout.supervisor_pid_file.write_text(f"{os.getpid()}\n")
    _say(f"supervisor {os.getpid()} begins")
    try:
        Supervisor(layout).run()
    finally:
        layout.supervisor_pid_file.unlink(missing_ok=True)
    _say(f"supervisor {os.getpid()} ends")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
