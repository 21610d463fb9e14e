"""The pages on erasing and on checking views, run as they stand on a deployment of their own."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streams.names import Namespace
from tests.docs.console import Shell, commands, follow
from tests.e2e.deployment import Deployment, until
from tests.e2e.test_erasure import Encrypted
from topology.stack.local import LocalStack

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"


@pytest.fixture
def deployment(stack: LocalStack, namespace: Namespace, tmp_path: Path) -> Iterator[Encrypted]:
    """A worker without models, and three frames of gate-1."""
    with closing(Encrypted(stack, namespace, tmp_path)) as made:
        made.start_workers("assess,erase,views")
        made.publish(("gate-1",), 3)
        until(lambda: len(made.states("frame_outcomes")) == 3, within_s=60, what="assessed")
        yield made
        print(made.last_lines())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ["erase.md", "check-views.md"])
def test_the_page_does_what_it_says(deployment: Deployment, page: str) -> None:
    """Every command ends as the page says and prints what the page says."""
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with Shell(deployment.folder, {**deployment.environment(), **path}) as shell:
        follow(HOW_TO / page, shell, timeout_s=120)


@pytest.mark.parametrize(("page", "count"), [("erase.md", 5), ("check-views.md", 2)])
def test_the_runner_runs_the_whole_page(page: str, count: int) -> None:
    """No console block is left out."""
    assert len(list(commands(HOW_TO / page))) == count
