"""Another pipeline, people in a yard: the page's own folder and commands on the real servers, and no line of the engine."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streams.names import Namespace
from tests.docs.console import Shell, commands, follow
from tests.e2e.deployment import ALL, CHECKOUT, Deployment, until
from topology import commands as asked
from topology.demo.media import fetch_media
from topology.stack import launch
from topology.stack.local import LocalStack
from topology.stack.ports import FREE_RANGE, choose

PAGE = CHECKOUT / "docs" / "how-to" / "bring-your-own-ensemble"
MEDIA = CHECKOUT / ".hindsight" / "media"


class Yard(Deployment):
    """A deployment whose folder is a copy of the page's, and whose settings are those that lie there."""

    def __init__(self, stack: LocalStack, namespace: Namespace, folder: Path) -> None:
        shutil.copytree(PAGE, folder)
        self.ports = choose(["gateway", "metrics"], fixed={}, preferred={}, among=FREE_RANGE)
        super().__init__(stack, namespace, folder)
        self.settings = self.settings.model_copy(update={"pipeline": self.settings.pipeline.model_copy(update={"name": "yard"})})

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "PYTHONPATH": f"{self.folder}:{CHECKOUT}",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HINDSIGHT_CONFIG": str(self.folder / "hindsight.toml"),
            "HINDSIGHT_GATEWAY__PORT": str(self.ports["gateway"]),
            "HINDSIGHT_GATEWAY__METRICS_PORT": str(self.ports["metrics"]),
            "VIDEO": str(fetch_media(MEDIA, say=print).video),
        }

    def start_gateway(self) -> "subprocess.Popen[bytes]":
        with (self.folder / "gateway.log").open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), sys.executable, "-m", "topology.cli", "gateway"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment(),
            )


@pytest.fixture
def yard(stack: LocalStack, namespace: Namespace, tmp_path: Path) -> Iterator[Yard]:
    """At work, with nothing registered, and nothing in Triton's repository."""
    shutil.rmtree(stack.layout.model_repository / "people_detector", ignore_errors=True)
    with closing(Yard(stack, namespace, tmp_path / "yard")) as deployment:
        gateway = deployment.start_gateway()
        try:
            deployment.start_workers(ALL)
            yield deployment
        finally:
            gateway.send_signal(signal.SIGKILL)
            gateway.wait()
            print(deployment.last_lines())


@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(yard: Yard) -> None:
    """Models folder, rules and settings alone: registered, released, read, looked back at, explained and asked what if."""
    assert len(list(commands(yard.folder / "README.md"))) >= 12
    with Shell(yard.folder, yard.environment()) as shell:
        follow(yard.folder / "README.md", shell, timeout_s=180)
    until(yard.is_drained, within_s=60, what="everything counted")
    assert asked.releases_now(yard.settings).in_force == "yard_r2"
    assert all(c.equal for c in yard.checked())


def test_models_keep_their_evidence_and_what_is_refused_changes_nothing(yard: Yard) -> None:
    """Two versions held against each other; other files, another configuration and a model that Triton does not load are refused
    with the reason, on the log where the release processor was asked, and the list of models stays as it was."""
    folder = yard.folder / "people_detector"
    register = ("models", "register", "people_detector", "--name", "people_detector")
    ended(yard, 0, *register)
    (yard.folder / "metrics.json").write_text('{"recall": 0.91}')
    (yard.folder / "lineage.json").write_text('{"dataset": "yard-2026-10", "parent": "people_detector:1"}')
    second = shutil.copytree(folder / "1", folder / "2") / "model.py"
    second.write_text(second.read_text().replace("scale=1.05", "scale=1.1"))
    evidence = ("--metrics", "metrics.json", "--lineage", "lineage.json")
    assert "people_detector:2 is registered" in ended(yard, 0, *register, "--version", "2", *evidence, "--reason", "faster")
    before = ended(yard, 0, "models", "list", "--format", "json")

    told = ended(yard, 1, "models", "diff", "people_detector:1", "people_detector:2")
    assert all(words in told for words in ("model.py", "recall", "0.91", "yard-2026-10"))
    assert "the same" in ended(yard, 0, "models", "diff", "people_detector:1", "people_detector:1")
    assert "recall" in ended(yard, 0, "models", "show", "people_detector:2")

    whole = second.read_text()
    second.write_text(whole + "\n# changed\n")
    assert "a model version never changes" in ended(yard, 1, *register, "--version", "2")
    second.write_text(whole)
    config = folder / "config.pbtxt"
    text = config.read_text()
    config.write_text(text.replace("count: 1", "count: 2"))
    assert "give it another name" in ended(yard, 1, *register, "--version", "2")
    config.write_text(text)
    (shutil.copytree(folder / "1", folder / "3") / "model.py").write_text("import cv3\n")
    assert "No module named 'cv3'" in ended(yard, 1, *register, "--version", "3")

    assert ended(yard, 0, "models", "list", "--format", "json") == before
    history = ended(yard, 0, "models", "history", "people_detector")
    assert history.count("refused: registered_otherwise") == 2
    assert "recall=0.91; dataset: yard-2026-10; parent: people_detector:1; trial: loaded by Triton" in history


def ended(yard: Yard, code: int, *arguments: str) -> str:
    """What a command printed, which ended so."""
    answer = yard.hindsight(*arguments)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr
