"""Bundles of a run through the real ensemble: the page in docs, and answers with no server equal to the live ones."""

import json
import os
import sys
from pathlib import Path

import pytest

from schemas.catalogue import RESULTS
from streams.records import system_clock
from tests.contract.test_bundle import nowhere
from tests.docs.console import Shell, commands, follow
from tests.e2e.deployment import Deployment, until
from tests.e2e.test_moments import rfc3339

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "incident-bundles.md"


@pytest.mark.slow
def test_the_page_does_what_it_says(running: Deployment, tmp_path: Path) -> None:
    """Every command of docs/how-to/incident-bundles.md, on a stack with frames of gate-1."""
    before = running.appended(RESULTS)
    running.publish(["gate-1", "gate-2"], 3)
    until(lambda: running.appended(RESULTS) >= before + 6, within_s=90, what="six results")
    environment = {**running.environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with Shell(tmp_path, environment) as shell:
        follow(PAGE, shell, timeout_s=120)
    text = PAGE.read_text()
    assert len(list(commands(PAGE))) == sum(line.startswith("$ ") for line in text.splitlines()) >= 13


@pytest.mark.slow
def test_answers_with_no_server_are_the_live_ones(running: Deployment, tmp_path: Path) -> None:
    """Frames read by the real models; `at` by command at moments of the run, live and from the bundle, is the same JSON."""
    before, from_us = running.appended(RESULTS), system_clock()
    running.publish(["gate-1", "gate-2"], 4, passage=4)
    until(lambda: running.appended(RESULTS) >= before + 8, within_s=90, what="eight results")
    to_us = system_clock()
    made = running.hindsight(
        *("bundle", "create", "--from", rfc3339(from_us), "--to", rfc3339(to_us), "-o", "run.hsb", "--format", "json")
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["blobs"]["missing_count"] == 0
    span_us = to_us - from_us
    for part in (0.3, 0.6, 0.9):
        asked = ("at", rfc3339(from_us + int(span_us * part)), "--device", "gate-1", "--around", str(span_us * 0.09 / 1e6))
        live = running.hindsight(*asked, "--format", "json")
        bundled = nowhere(*asked, "--bundle", "run.hsb", "--format", "json", folder=running.folder)
        assert (bundled.returncode, bundled.stderr) == (0, "")
        assert answer_of(bundled.stdout) == answer_of(live.stdout)
    (running.folder / "run.hsb").unlink()


def answer_of(printed: str) -> dict[str, object]:
    """What was answered, without where from."""
    return {name: value for name, value in json.loads(printed).items() if name not in ("source", "snapshots", "notes")}
