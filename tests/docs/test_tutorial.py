"""The tutorial, run as it stands against a stack of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.console import Command, Shell, commands, follow, says

CHECKOUT = Path(__file__).resolve().parents[2]
TUTORIAL = CHECKOUT / "docs" / "tutorial" / "first-incident.md"
READY = CHECKOUT / ".venv" / ".ready"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own that shares the checkout's servers; whatever still runs there at the end is stopped."""
    servers = CHECKOUT / ".hindsight" / "servers"
    servers.mkdir(parents=True, exist_ok=True)
    (tmp_path / "servers").symlink_to(servers)
    yield tmp_path
    environment = {**os.environ, "HINDSIGHT_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-m", "topology.cli", "down"], env=environment, check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_does_what_it_says(home: Path) -> None:
    """Every command ends as the page says and prints what the page says, from `make up` to `hindsight down`."""
    # What make does before `hindsight up` is to install; where that was done otherwise, it would do it again.
    instead = {} if READY.exists() else {"make up": "hindsight up", ". .venv/bin/activate": "true"}
    environment = {"HINDSIGHT_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with Shell(CHECKOUT, environment) as shell:
        follow(TUTORIAL, shell, timeout_s=400, instead=instead)


def test_the_runner_runs_the_whole_tutorial() -> None:
    """No console block of the tutorial is left out, so a new one cannot slip by unrun."""
    text = TUTORIAL.read_text()
    assert len(list(commands(TUTORIAL))) == sum(line.startswith("$ ") for line in text.splitlines()) >= 18


def test_the_runner_sees_what_differs() -> None:
    """Another exit code, a missing line and another word are each noticed; what the ellipsis stands for is not."""
    command = Command(line=1, typed="x", printed="one\n...\nthree ... five")
    assert says(command, "one\ntwo\nthree 4 five", 0)
    assert not says(command, "one\ntwo\nthree 4 five", 1)
    assert not says(command, "one\ntwo", 0)
    assert not says(command, "one\ntwo\nthree 4 six", 0)


def test_the_shell_keeps_variables_and_tells_the_exit_code(tmp_path: Path) -> None:
    """A page may set a variable in one block and use it in another; stderr is printed too."""
    with Shell(tmp_path, {}) as shell:
        assert shell.run("X=3", timeout_s=10) == ("", 0)
        assert shell.run('echo "$X"; echo no >&2; false', timeout_s=10) == ("3\nno\n", 1)
