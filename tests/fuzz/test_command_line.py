"""Every command with arguments that no tired hand would type: a documented exit code, and what to do about it, and never a trace.

Commands that answer from a bundle are asked with one, so that they get past the reading of arguments with no server at all.
Commands that cannot are asked where every server is away.
"""

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.envelope import rfc3339
from tests.bundles import World, bundled
from topology.cli import build_app, main

AWAY = {
    "HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "HINDSIGHT_KAFKA__SESSION_TIMEOUT_S": "0.3",
    "HINDSIGHT_KAFKA__HEARTBEAT_INTERVAL_S": "0.1",
    "HINDSIGHT_KAFKA__REQUEST_TIMEOUT_S": "0.5",
    "HINDSIGHT_REGISTRY__URL": "http://127.0.0.1:1",
    "HINDSIGHT_REGISTRY__TIMEOUT_S": "0.3",
    "HINDSIGHT_REDIS__URL": "redis://127.0.0.1:1/0",
    "HINDSIGHT_REDIS__TIMEOUT_S": "0.3",
    "HINDSIGHT_S3__ENDPOINT": "127.0.0.1:1",
    "HINDSIGHT_S3__TIMEOUT_S": "0.3",
    "HINDSIGHT_TRITON__ENDPOINTS": "127.0.0.1:1",
    "HINDSIGHT_TRITON__TIMEOUT_S": "0.3",
}
ROOT: Any = typer.main.get_command(build_app())


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    for name, one in (inner or {}).items():
        yield from _commands(one, (*path, name))


COMMANDS = dict(_commands(ROOT))
OF_BUNDLES = [p for p, c in COMMANDS.items() if any(o.name == "bundle" for o in c.params)] + [
    ("bundle", "info"),
    ("bundle", "verify"),
]


@dataclass(frozen=True)
class Place:
    """A folder with a bundle, things that are no bundle, and what a right answer may name."""

    folder: Path
    moment: str
    frame: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The process stands in the folder, with settings of servers that are all away."""
    folder = tmp_path_factory.mktemp("asked")
    world = World(partitions=1)
    frame = world.pass_by("gate-1", 0)
    bundled(world.past(), folder / "a.hsb", from_us=0, to_us=world.now_us, devices=None)
    (folder / "text.txt").write_text("no bundle")
    (folder / "empty").write_bytes(b"")
    (folder / "folder").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("HINDSIGHT_")]:
            patch.delenv(name)
        for name, value in {**AWAY, "HINDSIGHT_HOME": str(folder / "home")}.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        yield Place(folder, rfc3339(world.now_us), frame.frame_id)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def hindsight(*arguments: str) -> Ended:
    """Run it as a shell would, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return Ended(ended.value.code if isinstance(ended.value.code, int) else 0, out.getvalue(), err.getvalue())


def hold(ended: Ended) -> None:
    """No trace, a documented exit code, and a refusal of ours says what to do."""
    assert ended.code in (0, 1, 2, 3), ended
    assert "Traceback" not in ended.stderr + ended.stdout, ended.stderr
    assert "unexpected:" not in ended.stderr, ended.stderr
    if "error: " in ended.stderr:
        assert ended.code != 0
        assert "\ndo: " in ended.stderr, ended.stderr


NASTY = st.one_of(
    st.sampled_from(
        ["", " ", "-", "--", "-1", "0", "1e999", "nan", "99999999999999999999", "a/b", "../../etc/passwd", "\0", "'", "$(id)",
         "%s%n", "{}", "[", "\\", "é" * 300, "x" * 5000, "\udcff", "gate-*", "=", "a=", "=1", "a=b=c", "2026-13-45", "now",
         "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "10m ago", "last tue 25:61", "text.txt", "empty", "folder", "nothing"]
    ),
    st.text(max_size=12),
)  # fmt: skip
RIGHT = {
    "device": "gate-1", "since": "2020-01-01", "from_": "2020-01-01", "until": "now", "to": "now", "tz": "Europe/Berlin",
    "moment": "MOMENT", "at": "MOMENT", "target": "FRAME", "frame": "FRAME", "key": "gate-1", "view": "device_frames",
    "offset": "0", "where": "outcome == 'read'", "format": "json", "output": "out.jsonl", "file": "a.hsb",
    "names": "device_frames", "name": "r1", "first": "r1", "second": "r2", "model": "m", "order": "X-1", "expect": "MSCU1234566",
}  # fmt: skip


@st.composite
def asked(draw: st.DrawFn) -> list[str]:
    """A command about a bundle with right arguments, but for one option or argument that is nasty."""
    path = draw(st.sampled_from(OF_BUNDLES))
    parameters = [p for p in COMMANDS[path].params if p.name not in ("help", "bundle")]
    nasty = draw(st.sampled_from(parameters))
    out: list[str] = []
    for parameter in parameters:
        known = parameter.name in RIGHT and (parameter.required or draw(st.booleans()))
        if parameter is nasty:
            values = [draw(NASTY) for _ in range(max(1, parameter.nargs))]
        elif known:
            values = [RIGHT[parameter.name]] * max(1, parameter.nargs)
        else:
            continue
        name = [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
        out += name if getattr(parameter, "is_flag", False) else [*name, *values]
    if any(o.name == "bundle" for o in COMMANDS[path].params):
        out += ["--bundle", draw(st.sampled_from([*["a.hsb"] * 6, "text.txt", "empty", "folder", "nothing", ""]))]
    return [*path, *out]


@example(arguments=["explain", "FRAME", "--html", "", "--bundle", "a.hsb"])
@given(arguments=asked())
def test_commands_about_a_bundle_answer_or_say_what_to_do(place: Place, arguments: list[str]) -> None:
    """Whatever the arguments are."""
    hold(hindsight(*(a.replace("MOMENT", place.moment).replace("FRAME", place.frame) for a in arguments)))


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "no-such-server"), ("up", "--port", "kafka"),
        ("up", "--port", "kafka=70000"), ("up", "--port", "=1"),
        ("up", "\0"), ("up", "--port", "kafka=²"), ("up", "--port", "kafak=9092"),
        ("up", "--port", "kafka=9092", "--port", "redis=9092"),
        ("worker", "--processors", "nobody"), ("worker", "--processors", ""),
        ("logs", "nobody"), ("logs", "--lines", "-1"), ("logs", "../../etc/passwd"),
        ("publish", "nothing", "--device", "gate-1"), ("publish", "text.txt", "--device", "a/b"),
        ("publish", "folder", "--device", "gate-1", "--fps", "nan"), ("publish", "a.hsb", "--device", "gate-1", "--gateway", "x"),
        ("models", "register", "nothing", "--name", "m"), ("models", "register", "folder", "--name", ""),
        ("releases", "canary", "r1", "--percent", "101"), ("releases", "canary", "r1", "--steps", "5,4"),
        ("releases", "canary", "r1", "--percent", "nan"), ("releases", "register", "r 1", "--step", "x"),
        ("releases", "register", "", "--step", "a=b:c"), ("releases", "threshold", "a", "inf"),
        ("releases", "promote", "r1", "--gate-limit", "x"),
        ("dlq", "redrive", "--reason", "x"), ("dlq", "redrive", "--reason", "", "--offset", "0"),
        ("dlq", "discard", "--reason", "x"),
        ("bundle", "create", "--from", "now", "--to", "yesterday", "-o", "b.hsb"),
        ("bundle", "create", "--from", "yesterday", "--to", "now", "-o", "folder"), ("bundle", "keygen", "folder"),
        ("bundle", "import", "text.txt"), ("bundle", "import", "a.hsb", "--fill-at-most", "-1"),
        ("erase", "--device", "", "--from", "x", "--to", "y", "--order", "o"), ("topics", "--format", "xml"),
        ("nothing",), ("--nothing",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_commands_that_change_things_refuse_what_they_cannot_do(place: Place, arguments: tuple[str, ...]) -> None:
    """Before any server is asked, or with every server away: never done, and never a trace."""
    ended = hindsight(*arguments)
    hold(ended)
    assert ended.code != 0


@pytest.mark.parametrize("arguments", [("schemas", "check", "--registry"), ("blobs", "check"), ("status",)], ids=" ".join)
def test_with_every_server_away_a_command_says_so(place: Place, arguments: tuple[str, ...]) -> None:
    """It ends, and names what is away."""
    ended = hindsight(*arguments)
    hold(ended)
    assert ended.code != 0
