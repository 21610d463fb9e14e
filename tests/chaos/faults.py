"""How each fault is done to real processes, and healed. `plan.py` says which and when; `strike` returns when it is healed.

A killed process is started again by the stack's supervisor, as in a deployment; a stopped one is continued after the time that
it is held. A disk is full in one of two ways: a small file system under the spool that something else fills up (where we may
mount one), or a limit on the size of every file that the edge client writes (RLIMIT_FSIZE), which needs no rights.
"""

import ctypes
import os
import resource
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import redis

from tests.chaos.edge import JOURNAL
from tests.chaos.plan import Fault, Strike
from tests.chaos.world import World
from tests.e2e.deployment import R1, until
from topology.stack import processes
from topology.stack.processes import ProcessKey, session_members
from topology.stack.programs import Program
from triton_models.repository import RELEASES

Say = Callable[[str], None]
_READY_S = 150.0
_WAL_BYTES = 32 * 1024
_CLONE_NEWNS = 0x00020000
DISK_BYTES = 6 * 2**20
_SERVERS = {
    Fault.KILL_TRITON: "triton",
    Fault.KILL_REDIS: "redis",
    Fault.KILL_KAFKA: "kafka",
    Fault.KILL_REGISTRY: "registry",
    Fault.KILL_S3: "s3",
    Fault.STOP_TRITON: "triton",
    Fault.STOP_REDIS: "redis",
    Fault.STOP_KAFKA: "kafka",
}


def strike(world: World, one: Strike, *, wait: Callable[[float], object], say: Say) -> None:
    """Do one fault and heal it.

    Args:
        wait: Waits so many seconds while the fault stands.
    """
    match one.fault:
        case Fault.KILL_WORKER | Fault.KILL_GATEWAY | Fault.KILL_EDGE:
            _kill(world, _chosen(world, one).name, say)
        case Fault.KILL_TRITON | Fault.KILL_REDIS | Fault.KILL_KAFKA | Fault.KILL_REGISTRY | Fault.KILL_S3:
            _kill(world, _SERVERS[one.fault], say)
        case Fault.KILL_MODEL:
            victims = until(lambda: _model_processes(world), within_s=_READY_S, what="processes that run the models")
            victim = victims[one.pick % len(victims)]
            say(f"kill -9 of {victim.pid}, which runs {_command(victim).split()[1]}")
            processes.send([victim], signal.SIGKILL)
        case Fault.STOP_WORKER | Fault.STOP_TRITON | Fault.STOP_REDIS | Fault.STOP_KAFKA:
            name = _SERVERS.get(one.fault) or _chosen(world, one).name
            _hold(world, name, lambda: wait(one.hold_s), say)
        case Fault.FULL_DISK:
            _fill_disk(world, one, wait, say)
        case Fault.FLUSH_REDIS:
            say("flushes Redis")
            with redis.Redis.from_url(world.deployment.settings.redis.url) as client:
                client.flushall()
        case Fault.ADD_WORKER:
            extra = world.worker_program(f"extra-{one.pick}")
            say(f"adds {extra.name}")
            world.stack.start([extra])
            wait(one.hold_s)
            say(f"removes {extra.name}")
            world.stack.stop([extra.name])
        case Fault.ROLL_WORKERS:
            for worker in world.workers:
                say(f"restarts {worker.name}")
                world.stack.restart(worker.name)


def _chosen(world: World, one: Strike) -> Program:
    among: Sequence[Program] = (world.gateway,)
    if one.fault in (Fault.KILL_WORKER, Fault.STOP_WORKER):
        among = world.workers
    elif one.fault in (Fault.KILL_EDGE, Fault.FULL_DISK):
        among = world.edges
    return among[one.pick % len(among)]


def _kill(world: World, name: str, say: Say) -> None:
    _running(world, name)
    say(f"kill -9 of {name}")
    world.stack.kill(name)
    world.stack.wait_ready(name, timeout_s=_READY_S)
    say(f"{name} is ready again")


def _hold(world: World, name: str, wait: Callable[[], object], say: Say) -> None:
    """Stop a program with all that it started, as a machine that freezes does."""
    stopped = session_members(_running(world, name).pid)
    say(f"SIGSTOP of {name}, {len(stopped)} processes")
    processes.send(stopped, signal.SIGSTOP)
    try:
        wait()
    finally:
        processes.send(stopped, signal.SIGCONT)
        say(f"SIGCONT of {name}")


def _running(world: World, name: str) -> ProcessKey:
    """The process of a program; another fault may have it down, and then it is hit when it is back."""

    def living() -> ProcessKey | None:
        key = world.stack.program_state(name).process
        return key if processes.is_alive(key) else None

    found = until(living, within_s=_READY_S, what=f"{name} runs")
    assert found is not None, "`until` gives a true answer"
    return found


def _model_processes(world: World) -> list[ProcessKey]:
    """The processes that run the models of the release in force; none while Triton has not loaded them."""
    key = _running(world, "triton")
    repository = world.stack.layout.model_repository.resolve()
    folders = [f"{repository}/{pin.model}/{pin.version}/" for pin in RELEASES[R1]]
    return [one for one in session_members(key.pid) if any(folder in _command(one) for folder in folders)]


def _command(key: ProcessKey) -> str:
    with suppress(OSError):
        return Path(f"/proc/{key.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


# The full disk


def own_mounts() -> bool:
    """Give this process mounts of its own, which go with it and with what it starts; False where we may not.

    Called before any thread is started: each thread has its own mounts from then on.
    """
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True).returncode == 0


def mount_disk(folder: Path) -> None:
    """Put a small file system under a spool."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "hindsight-chaos", str(folder)], check=True)


def unmount_disk(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def _fill_disk(world: World, one: Strike, wait: Callable[[float], object], say: Say) -> None:
    edge = _chosen(world, one)
    folder = world.spool_of(world.devices[world.edges.index(edge)])
    if (folder / "spool").is_mount():
        _give_room_back(folder / "spool" / "frames.sqlite")
        fill(folder / "spool" / "ballast", edge.name, lambda: wait(one.hold_s), say)
        return
    key = _running(world, edge.name)
    # The journal is written by the same process, and must go on.
    most = (folder / JOURNAL).stat().st_size + _WAL_BYTES
    _, hard = resource.prlimit(key.pid, resource.RLIMIT_FSIZE)
    say(f"no file of {edge.name} may be larger than {most} bytes")
    resource.prlimit(key.pid, resource.RLIMIT_FSIZE, (most, hard))
    try:
        wait(one.hold_s)
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(key.pid, resource.RLIMIT_FSIZE, (hard, hard))
        say(f"files of {edge.name} may grow again")


def _give_room_back(database: Path) -> None:
    """SQLite writes over what its log took before, and would not notice a full disk; let the log begin at nothing."""
    with closing(sqlite3.connect(database, timeout=10)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fill(ballast: Path, name: str, wait: Callable[[], object], say: Say) -> None:
    """Take up what is left of the file system, and whatever comes free while it stands."""
    done = threading.Event()

    def grow() -> None:
        with ballast.open("ab", buffering=0) as out:
            while not done.wait(0.05):
                with suppress(OSError):
                    while out.write(bytes(4096)):
                        pass

    filling = threading.Thread(target=grow)
    filling.start()
    say(f"the disk of {name} is full")
    try:
        wait()
    finally:
        done.set()
        filling.join()
        ballast.unlink(missing_ok=True)
        say(f"the disk of {name} has room again")
