"""Re-inference and what-if from an incident bundle, with no server and no models on the machine but the bundle's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.deployment import R1, R2, Deployment, devices_on_every_partition

DEVICES = devices_on_every_partition()[:2]
# What depends on when and where it was asked.
_OF_THE_RUN = ("source", "from", "to", "took_s")


@pytest.fixture
def bundle(running: Deployment, tmp_path: Path) -> Path:
    """A bundle of frames that one release read, with the models of two."""
    running.publish(DEVICES, 10, passage=10)
    running.drain()
    for release in (R1, R2):
        running.register(release)
    made = running.hindsight(
        "bundle", "create", "--from", "1 hour ago", "--to", "now", "--with-models", "-o", str(tmp_path / "incident.hsb")
    )
    assert made.returncode == 0, made.stderr
    return tmp_path / "incident.hsb"


def alone(deployment: Deployment, bundle: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command on the bundle, in a home of its own where no stack ever was."""
    environment = {k: v for k, v in deployment.environment().items() if not k.startswith("HINDSIGHT_")}
    return subprocess.run(
        [sys.executable, "-m", "topology.cli", *arguments, "--bundle", str(bundle)],
        env={**environment, "HINDSIGHT_HOME": str(bundle.parent / "home")},
        cwd=bundle.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )


def plain(answer: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert answer.returncode == 0, answer.stderr
    return {k: v for k, v in json.loads(answer.stdout).items() if k not in _OF_THE_RUN}


def test_a_bundle_with_models_answers_as_the_live_log_does(running: Deployment, bundle: Path) -> None:
    """What if another release, and bit-exact re-inference, from the file alone; equal to the live answers."""
    for question in (
        ("reinfer", "--from", "1 hour ago", "--format", "json"),
        ("whatif", "--from", "1 hour ago", "--release", R2, "--format", "json"),
        ("whatif", "--from", "1 hour ago", "--threshold", "text_confidence=0.99", "--format", "json"),
    ):
        assert plain(alone(running, bundle, *question, "--trust-models")) == plain(running.hindsight(*question))
    listed = json.loads(alone(running, bundle, "models", "list", "--format", "json").stdout)
    assert listed == json.loads(running.hindsight("models", "list", "--format", "json").stdout)


def test_models_that_a_bundle_brings_are_not_run_unasked(running: Deployment, bundle: Path) -> None:
    """A model brings its own program: without --trust-models the frames are not judged, and the reason is said."""
    refused = alone(running, bundle, "reinfer", running.frames[-1])
    assert (refused.returncode, "runs the program that comes with it" in refused.stdout) == (1, True), refused.stderr
    refused = alone(running, bundle, "whatif", "--from", "1 hour ago", "--release", R2)
    assert (refused.returncode, "--trust-models" in refused.stderr) == (1, True), refused.stderr
