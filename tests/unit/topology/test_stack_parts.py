"""The parts of the local stack that need no server: ports, backoff, logs, plans, the questions to servers."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from topology.stack import logs, ports, probes
from topology.stack.layout import find_home
from topology.stack.processes import ProcessKey
from topology.stack.programs import Backoff, Probe, Program, http_probe
from topology.stack.state import Endpoints, Plan, read_plan, read_state, write_plan


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


# Out of the range that stacks choose from, so that none running beside this test takes one in between.
APART = range(10000, 11000)


def test_ports_are_chosen_free_and_different() -> None:
    """A preferred port that is taken, or wanted twice, is replaced by a free one."""
    free = next(filter(ports.is_free, APART))
    with taken_port() as taken:
        chosen = ports.choose(["a", "b", "c"], fixed={}, preferred={"a": taken, "b": free, "c": free}, among=APART)
    assert chosen["a"] != taken
    assert chosen["b"] == free
    assert len(set(chosen.values())) == 3


def test_a_fixed_port_is_taken_or_refused() -> None:
    """A port that was set is used as it is, also before others get theirs; a taken one is refused."""
    free = next(filter(ports.is_free, APART))
    chosen = ports.choose(["a", "b"], fixed={"b": free}, preferred={"a": free}, among=APART)
    assert chosen["b"] == free
    assert chosen["a"] != free
    with taken_port() as taken, pytest.raises(ConfigurationError, match=f"port {taken} for a is taken"):
        ports.choose(["a"], fixed={"a": taken}, preferred={})


def test_no_free_port_is_an_error() -> None:
    """When the range is used up, choosing says so."""
    with taken_port() as taken, pytest.raises(ConfigurationError, match="no free port"):
        ports.choose(["a"], fixed={}, preferred={}, among=[taken])


def test_backoff_doubles_up_to_its_limit() -> None:
    """Waits grow with failures in a row and stay bounded."""
    backoff = Backoff(first_s=0.5, longest_s=5.0)
    assert [backoff.wait_s(n) for n in (1, 2, 3, 4, 5, 50)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    """What is read back from a plan file is what was written, and only its owner may read the file."""
    program = Program(
        name="x",
        argv=("a", "b"),
        environment={"K": "v"},
        ports={"x": 1},
        needs=("y",),
        probe=http_probe("http://h:1/"),
        generation=2,
    )
    plan = Plan(programs=(program,), endpoints=Endpoints(s3_secret_key="k"), ports={"x": 1}, revision=3, owner=ProcessKey(1, 2))
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan
    assert (tmp_path / "plan.json").stat().st_mode & 0o077 == 0
    assert "'k'" not in repr(plan.endpoints)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_an_unreadable_state_is_no_state(tmp_path: Path, content: str) -> None:
    """A damaged state file reads as none at all: the stack counts as down."""
    (tmp_path / "state.json").write_text(content)
    assert read_state(tmp_path / "state.json") is None


def test_a_probe_that_cannot_be_imported_is_named() -> None:
    """A wrong probe is a wrong configuration, not a server that is not ready."""
    with pytest.raises(ConfigurationError, match="nonesuch"):
        Probe(target="topology.stack.probes:nonesuch").resolve()


def test_the_tail_is_the_last_lines(tmp_path: Path) -> None:
    """The last lines of a file, or none of a file that is not there."""
    path = tmp_path / "x.log"
    path.write_text("".join(f"line {n}\n" for n in range(1000)))
    assert logs.tail(path, 2) == ("line 998", "line 999")
    assert logs.tail(tmp_path / "none.log", 2) == ()


def test_a_log_past_its_limit_is_emptied_and_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs stay bounded: one full file is kept beside the current one."""
    monkeypatch.setattr(logs, "LIMIT_BYTES", 10)
    path = tmp_path / "x.log"
    path.write_text("more than ten bytes\n")
    logs.rotate(path)
    assert path.read_text() == ""
    assert (tmp_path / "x.log.1").read_text() == "more than ten bytes\n"


def test_following_gives_new_lines_and_only_whole_ones(tmp_path: Path) -> None:
    """A line is given once it is finished, also when its parts were written at different times."""
    path = tmp_path / "x.log"
    path.write_text("old\n")
    writes = iter(["par", "tial\nnext\n"])

    def is_wanted() -> bool:
        piece = next(writes, None)
        if piece is None:
            return False
        with path.open("a") as out:
            out.write(piece)
        return True

    assert list(logs.follow([path], lines=1, is_wanted=is_wanted)) == [("x", "old"), ("x", "partial"), ("x", "next")]


def test_home_is_named_or_found_upwards(tmp_path: Path) -> None:
    """HINDSIGHT_HOME wins; else the nearest folder upwards that looks like a project."""
    (tmp_path / "pyproject.toml").touch()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find_home({}, inner) == tmp_path / ".hindsight"
    assert find_home({"HINDSIGHT_HOME": str(inner)}, inner) == inner


@pytest.mark.parametrize(
    ("brokers", "error", "is_ready"),
    [(1, 0, True), (0, 0, False), (1, 41, False)],
)
def test_kafka_is_ready_when_it_lists_itself(brokers: int, error: int, is_ready: bool) -> None:
    """A broker that lists no broker yet, or answers an error, is not ready, though its port is open."""
    answer = struct.pack(">iBihB", 1, 0, 0, error, 0) + bytes([4]) + b"abc" + struct.pack(">iB", 1, brokers + 1) + b"\0" * 8
    with _answering(struct.pack(">i", len(answer)) + answer) as port:
        if is_ready:
            probes.kafka_lists_itself(host="127.0.0.1", port=port)
        else:
            with pytest.raises(probes.NotReadyError):
                probes.kafka_lists_itself(host="127.0.0.1", port=port)


def test_redis_that_loads_is_not_ready() -> None:
    """A Redis that still reads its file answers LOADING, which is not ready."""
    with (
        _answering(b"-LOADING Redis is loading the dataset in memory\r\n") as port,
        pytest.raises(probes.NotReadyError, match="LOADING"),
    ):
        probes.redis_answers(host="127.0.0.1", port=port)


@contextmanager
def _answering(content: bytes) -> Iterator[int]:
    """A server that gives one fixed answer to the first who asks."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(content)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(timeout=5)
