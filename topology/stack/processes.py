"""Facts about Linux processes, and how to stop them for certain.

A process is known by its pid *and* its start time, since pids are used again. Everything that the stack starts also
carries MARK=<home> in its environment, so that a process whose parents all died is still found. Read from /proc; the
supervisor (`supervisor.py`) and `local.py` act on it.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "HINDSIGHT_STACK_HOME"
_PROC = Path("/proc")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat counted after the name in brackets, which may itself hold spaces and brackets.
_STATE, _SESSION, _START_TICKS, _RSS_PAGES = 0, 3, 19, 21


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """One process for all time: its pid and when the kernel started it, in clock ticks since boot."""

    pid: int
    start_ticks: int


def key_of(pid: int) -> ProcessKey | None:
    """The key of a living process; None when there is none or it is only waiting to be reaped."""
    fields = _stat(pid)
    if fields is None or fields[_STATE] in "ZX":
        return None
    return ProcessKey(pid, int(fields[_START_TICKS]))


def is_alive(key: ProcessKey | None) -> bool:
    """Whether this very process still runs."""
    return key is not None and key_of(key.pid) == key


def uptime_s(key: ProcessKey) -> float:
    """Seconds since the process started."""
    since_boot_s = float((_PROC / "uptime").read_text().split()[0])
    return max(0.0, since_boot_s - key.start_ticks / _TICKS_PER_S)


def session_members(session_id: int) -> list[ProcessKey]:
    """The living processes of a session, sorted by pid: a server with all that it forked."""
    found = []
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and int(fields[_SESSION]) == session_id and fields[_STATE] not in "ZX":
            found.append(ProcessKey(pid, int(fields[_START_TICKS])))
    return found


def marked(home: Path) -> list[ProcessKey]:
    """The living processes that the stack at `home` started, whoever is their parent now. Own user's only."""
    mark = f"{MARK}={home}".encode()
    found = []
    for pid in _pids():
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0") and (key := key_of(pid)) is not None:
            found.append(key)
    return found


def rss_bytes(session_id: int) -> int:
    """Resident memory of a session's processes, summed; shared pages count in each of them."""
    total = 0
    for key in session_members(session_id):
        fields = _stat(key.pid)
        total += int(fields[_RSS_PAGES]) * _PAGE_BYTES if fields is not None else 0
    return total


def send(keys: Iterable[ProcessKey], number: signal.Signals) -> None:
    """Signal those of the processes that still run."""
    for key in keys:
        if is_alive(key):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(key.pid, number)


def stop(find: Callable[[], list[ProcessKey]], *, grace_s: float) -> bool:
    """SIGTERM all that `find` finds, then SIGKILL what it still finds after `grace_s`; true when it finds none.

    It is asked again and again, since what is about to be killed may fork until the last moment.
    """
    send(find(), signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while find():
        if time.monotonic() > deadline:
            return kill(find)
        time.sleep(0.02)
    return True


def kill(find: Callable[[], list[ProcessKey]], *, timeout_s: float = 5.0) -> bool:
    """SIGKILL what `find` finds until it finds none; false when the time is up first."""
    deadline = time.monotonic() + timeout_s
    while found := find():
        if time.monotonic() > deadline:
            return False
        send(found, signal.SIGKILL)
        time.sleep(0.005)
    return True


def wait_gone(keys: Iterable[ProcessKey], *, timeout_s: float) -> bool:
    """Wait until none of the processes runs; false when the time is up first."""
    wanted = list(keys)
    deadline = time.monotonic() + timeout_s
    while any(is_alive(key) for key in wanted):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _pids() -> Iterator[int]:
    return iter(sorted(int(name) for name in os.listdir(_PROC) if name.isdigit()))


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
