"""The commands of the pages on looking back and on snapshots, run as they stand against a log made a moment ago."""

import os
import sys
from pathlib import Path

import pytest

from streams.names import Namespace
from streams.records import system_clock
from tests.benchmarks import made_log
from tests.docs.console import Shell, commands, follow
from tests.e2e.deployment import settings_of
from topology import wiring
from topology.stack.local import LocalStack

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"


@pytest.mark.parametrize(("name", "count"), [("look-back.md", 5), ("snapshots.md", 5)])
def test_the_commands_of_the_page_do_what_it_says(
    name: str, count: int, stack: LocalStack, namespace: Namespace, tmp_path: Path
) -> None:
    """Frames captured over the last hour, all written now: what the page shows is what a reader sees."""
    settings = settings_of(stack, namespace)
    wiring.prepare(settings)
    site = made_log.Site(frames=360, devices=3, every_us=10_000_000, starts_us=system_clock() - 3_600_000_000)
    for written in (made_log.releases(), made_log.chain(site)):
        made_log.write(
            wiring.bootstrap_servers(settings), wiring.namespace(settings), wiring.schemas(settings), written, wait_each=3
        )
    environment = {
        "HINDSIGHT_HOME": str(stack.layout.home),
        "HINDSIGHT_NAMESPACE": namespace.prefix,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    page = HOW_TO / name
    assert len(list(commands(page))) == count
    with Shell(tmp_path, environment) as shell:
        follow(page, shell, timeout_s=60)
