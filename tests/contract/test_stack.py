"""The local stack: real servers under real supervision, with real kills. Redis and S3 stand for the others where any does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from schemas.errors import ConfigurationError
from topology.stack import plan, processes
from topology.stack.local import LocalStack, StackError
from topology.stack.programs import Backoff, Program, port_probe

CHECKOUT = Path(__file__).resolve().parents[2]
QUICK = Backoff(first_s=0.1, longest_s=0.5)
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def make_stack(home: Path, servers: tuple[str, ...] = ("redis",), **options: object) -> LocalStack:
    settings: dict[str, object] = {"ports": "free", "owned": True, "backoff": QUICK, "watch_every_s": 0.5, **options}
    return LocalStack(home, servers, servers_folder=CHECKOUT / ".hindsight" / "servers", **settings)  # type: ignore[arg-type]


def hindsight(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "topology.cli", *arguments],
        env={**os.environ, "HINDSIGHT_HOME": str(home), "PYTHONPATH": str(CHECKOUT)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def kill_supervisor(stack: LocalStack) -> None:
    state = stack.state()
    assert state is not None
    processes.send([state.supervisor], signal.SIGKILL)
    assert processes.wait_gone([state.supervisor], timeout_s=5)


def free_port() -> int:
    return plan.choose_ports(["redis"], fixed={}, last={}, use_defaults=False)["redis"]


@pytest.fixture
def redis_stack(tmp_path: Path) -> Iterator[LocalStack]:
    with make_stack(tmp_path) as running:
        yield running


def test_up_twice_says_that_there_is_nothing_to_do(redis_stack: LocalStack) -> None:
    """A second `up` changes nothing and says so."""
    before = redis_stack.program_state("redis").process
    assert redis_stack.up() is False
    assert redis_stack.program_state("redis").process == before
    said = hindsight(redis_stack.layout.home, "up", "redis")
    assert (said.returncode, said.stdout) == (0, "already up; nothing to do\n")


def test_down_leaves_no_process_and_keeps_the_data(tmp_path: Path) -> None:
    """After `down` nothing of the stack runs; the next `up` has the same ports and what was stored."""
    with make_stack(tmp_path) as running:
        url = running.endpoints.redis_url
        with redis.Redis.from_url(url) as client:
            client.set("kept", "yes")
        state = running.state()
        assert state is not None
        server = running.program_state("redis").process
    assert not processes.is_alive(server)
    assert processes.marked(tmp_path) == []
    assert not processes.is_alive(state.supervisor)
    assert running.down() is False
    with make_stack(tmp_path) as again, redis.Redis.from_url(again.endpoints.redis_url) as client:
        assert again.endpoints.redis_url == url
        assert client.get("kept") == b"yes"


def test_a_killed_server_comes_back_and_status_says_so(tmp_path: Path) -> None:
    """kill -9 of servers: they are ready again, on their ports, and status has the restart and how it ended."""
    with make_stack(tmp_path, ("redis", "s3")) as running:
        keys = {name: running.kill(name) for name in ("redis", "s3")}
        for name, key in keys.items():
            state = running.wait_ready(name, timeout_s=40)
            assert state.restarts == 1
            assert state.process != key
            assert state.last_exit is not None
            assert state.last_exit.code == -signal.SIGKILL
        shown = json.loads(hindsight(tmp_path, "status", "--format", "json").stdout)
        assert {one["name"]: one["restarts"] for one in shown["programs"]} == {"redis": 1, "s3": 1}
        assert {one["last_exit"]["how"] for one in shown["programs"]} == {"killed by signal 9"}
        table = hindsight(tmp_path, "status")
        assert table.returncode == 0
        assert "killed by signal 9" in table.stdout


def test_what_a_server_forked_ends_with_it(tmp_path: Path) -> None:
    """When a program's process is killed, the processes that it had started do not outlive it."""
    program = Program(name="family", argv=("/bin/sh", "-c", "sleep 1000 & exec sleep 2000"))
    with make_stack(tmp_path, (), programs=(program,)) as running:
        leader = running.program_state("family").process
        assert leader is not None
        members = _wait_for(lambda: found if len(found := processes.session_members(leader.pid)) == 2 else None)
        running.kill("family")
        assert processes.wait_gone(members, timeout_s=5)
        assert running.wait_ready("family").process != leader


def test_a_taken_port_makes_way(tmp_path: Path) -> None:
    """When the default port is another process's, the stack takes a free one and records it."""
    default = plan.DEFAULT_PORTS["redis"]["redis"]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", default))
            other.listen()
        except OSError:
            pass  # A stack of this checkout has it, which serves as well.
        with make_stack(tmp_path, ports="default") as running:
            port = running.program_state("redis").ports["redis"]
            assert port != default
            assert running.endpoints.redis_url == f"redis://127.0.0.1:{port}/0"


def test_a_port_that_was_set_is_not_replaced(tmp_path: Path) -> None:
    """When the user set the port and it is taken, `up` refuses and names the setting."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigurationError) as caught:
            make_stack(tmp_path, fixed_ports={"redis": other.getsockname()[1]}).up()
    assert caught.value.setting == "stack.ports.redis"
    assert processes.marked(tmp_path) == []


def test_up_fails_with_the_last_lines_of_what_failed(tmp_path: Path) -> None:
    """A server that ends before it is ready fails `up` with its own words, and nothing is left running."""
    script = "echo loading; echo 'no such plugin: x' >&2; exit 7"
    broken = Program(name="broken", argv=("/bin/sh", "-c", script), probe=port_probe(free_port()))
    begin = time.monotonic()
    with pytest.raises(StackError) as caught:
        make_stack(tmp_path, programs=(broken,)).up()
    assert time.monotonic() - begin < 15
    assert "broken failed: exit code 7" in str(caught.value)
    assert "no such plugin: x" in str(caught.value)
    assert processes.marked(tmp_path) == []


def test_up_fails_in_bounded_time_when_a_server_hangs(tmp_path: Path) -> None:
    """A server that runs and never answers is given up after its time, and is killed even if it ignores SIGTERM."""
    script = "trap '' TERM; echo thinking; while :; do sleep 0.2; done"
    hanging = Program(
        name="hanging", argv=("/bin/sh", "-c", script), probe=port_probe(free_port()), ready_timeout_s=1, stop_grace_s=0.5
    )
    begin = time.monotonic()
    with pytest.raises(StackError, match="not ready after 1 s"):
        make_stack(tmp_path, programs=(hanging,)).up()
    assert time.monotonic() - begin < 15
    assert processes.marked(tmp_path) == []


def test_a_killed_supervisor_takes_the_servers_with_it(redis_stack: LocalStack) -> None:
    """kill -9 of the supervisor: the servers end by themselves, and `status` says that the stack is down."""
    server = redis_stack.program_state("redis").process
    assert server is not None
    assert processes.marked(redis_stack.layout.home) == [server]
    kill_supervisor(redis_stack)
    assert processes.wait_gone([server], timeout_s=10)
    status = hindsight(redis_stack.layout.home, "status")
    assert (status.returncode, status.stdout) == (1, "the local stack is down; hindsight up starts it\n")


def test_down_finds_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    """What survives the supervisor's end, and ignores SIGTERM, is found and ended by `down`."""
    stubborn = Program(name="stubborn", argv=("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"), stop_grace_s=0.5)
    running = make_stack(tmp_path, (), programs=(stubborn,))
    running.up()
    kill_supervisor(running)
    assert processes.marked(tmp_path) != []
    assert running.down() is True
    assert processes.marked(tmp_path) == []


def test_up_after_a_killed_supervisor_starts_afresh(tmp_path: Path) -> None:
    """`up` ends what a killed supervisor left and brings everything up again."""
    with make_stack(tmp_path) as running:
        kill_supervisor(running)
        assert running.up() is True
        assert len(processes.session_members(running.program_state("redis").process.pid)) == 1  # type: ignore[union-attr]


def test_an_owned_stack_ends_with_its_owner(tmp_path: Path) -> None:
    """A stack of a test session is gone soon after the session was killed."""
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom topology.stack.local import LocalStack\n"
        "LocalStack(Path(sys.argv[1]), ('redis',), ports='free', owned=True).up()\nos.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    stack = make_stack(tmp_path)
    assert _wait_for(lambda: stack.state() is None or None)
    assert processes.marked(tmp_path) == []


def test_programs_join_and_leave_a_running_stack(redis_stack: LocalStack) -> None:
    """A program of our own is started beside the servers, restarted on request and taken out again."""
    program = Program(name="own", argv=("/bin/sleep", "1000"), needs=("redis",))
    redis_stack.start([program])
    first = redis_stack.program_state("own").process
    redis_stack.restart("own")
    second = redis_stack.program_state("own").process
    assert first != second
    assert not processes.is_alive(first)
    redis_stack.stop(["own"])
    assert not processes.is_alive(second)
    assert redis_stack.program_state("redis").restarts == 0


def test_a_server_that_stops_answering_is_shown(redis_stack: LocalStack) -> None:
    """A frozen server is not called ready: status shows it as unresponsive, and ready again once it answers."""
    key = redis_stack.program_state("redis").process
    assert key is not None
    os.kill(key.pid, signal.SIGSTOP)
    try:
        _wait_for(lambda: redis_stack.program_state("redis").condition == "unresponsive" or None, timeout_s=30)
        assert hindsight(redis_stack.layout.home, "status").returncode == 1
    finally:
        os.kill(key.pid, signal.SIGCONT)
    assert redis_stack.wait_ready("redis").process == key


def test_logs_are_kept_apart_and_printed(redis_stack: LocalStack) -> None:
    """`hindsight logs SERVER -n` prints that server's last lines; an unknown server is refused with the names there are."""
    shown = hindsight(redis_stack.layout.home, "logs", "redis", "-n", "1")
    assert "Ready to accept connections" in shown.stdout
    assert len(shown.stdout.splitlines()) == 1
    refused = hindsight(redis_stack.layout.home, "logs", "nonesuch")
    assert refused.returncode == 2
    assert "redis" in refused.stderr


def test_every_listener_is_on_loopback(stack: LocalStack) -> None:
    """No server of the whole stack listens on an address that other machines reach; each has all its recorded ports."""
    state = stack.state()
    assert state is not None
    recorded = {port for program in state.programs for port in program.ports.values()}
    for program in state.programs:
        assert program.process is not None
        found = set(_listeners(processes.session_members(program.process.pid)))
        assert {address for address, _ in found} <= LOOPBACK, program.name
        unrecorded = {port for _, port in found} - set(program.ports.values())
        assert {port for _, port in found} >= set(program.ports.values()), program.name
        # The registry's transaction library opens one more, which the kernel chooses.
        assert len(unrecorded) <= (1 if program.name == "registry" else 0), program.name
    assert len(recorded) == 15


def test_kafka_creates_no_topic_by_accident(stack: LocalStack) -> None:
    """Asking the broker about a topic that is not there does not make it."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": stack.endpoints.kafka_bootstrap})
    admin.list_topics("never-made", timeout=10)
    assert "never-made" not in admin.list_topics(timeout=10).topics


def _listeners(keys: list[processes.ProcessKey]) -> Iterator[tuple[str, int]]:
    inodes = set()
    for key in keys:
        for descriptor in Path(f"/proc/{key.pid}/fd").iterdir():
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            is_listening = fields[3] == "0A"
            if is_listening and fields[9] in inodes:
                address, port = fields[1].split(":")
                yield address, int(port, 16)


def _wait_for(ask: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while (found := ask()) is None:
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
    return found
