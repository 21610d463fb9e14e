"""What is asked of a bundle that was made for one device: nothing is answered of another one as if all of it were there."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from processors.snapshots.keeping import Keeper, Ports, Rules
from processors.snapshots.thinning import Policy
from processors.views.catalogue import VIEWS
from schemas.envelope import rfc3339
from schemas.errors import ContractError
from tests.bundles import PIPELINE, World, bundled
from topology.cli import build_app

RULES = Rules(every_events=10, every_ms=10**9, policy=Policy())


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Of gate-1, with snapshots that hold states of gate-2 too; and its last moment. The settings here name another pipeline."""
    monkeypatch.setenv("HINDSIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("HINDSIGHT_PIPELINE__NAME", "another")
    world = World(partitions=1)
    from_us = 0
    for sequence in range(24):
        for device in ("gate-1", "gate-2"):
            world.pass_by(device, sequence)
        if sequence % 8 == 7:
            ports = Ports(log=world.log, schemas=world.schemas, blobs=world.blobs, append=world.raw, clock=lambda: world.now_us)
            for view in VIEWS.values():
                keeper = Keeper(view, 0, ports, RULES)
                while keeper.step() is not None:
                    pass
        if sequence == 16:
            from_us = world.now_us
    path = tmp_path / "a.hsb"
    bundled(world.past(), path, from_us=from_us, to_us=world.now_us, devices=["gate-1"])
    return path, rfc3339(world.now_us)


def hindsight(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(), list(arguments))


@pytest.mark.parametrize(
    "asked",
    [
        ("at", "MOMENT", "--view", "device_frames", "--key", "gate-2"),
        ("at", "--diff", "MOMENT", "MOMENT", "--view", "device_results", "--key", "gate-2"),
        ("at", "MOMENT", "--view", "alerts", "--key", "view/device_frames/0"),
        ("erase", "--device", "gate-2", "--from", "1 hour ago", "--to", "now", "--order", "X", "--dry-run"),
        ("why-not", "--device", "gate-2", "--at", "MOMENT"),
        ("bisect", "--device", "gate-2", "--from", "1 hour ago", "--where", "outcome == 'read'"),
    ],
    ids=lambda asked: " ".join(asked[:1] + asked[-2:-1]),
)
def test_a_device_that_was_left_out_is_refused(bundle: tuple[Path, str], asked: tuple[str, ...]) -> None:
    """A snapshot in the bundle may hold its state, an old one."""
    path, moment = bundle
    found = hindsight(*(moment if one == "MOMENT" else one for one in asked), "--bundle", str(path))
    assert isinstance(found.exception, ContractError)
    assert "was made without" in str(found.exception)


def test_what_it_holds_is_answered(bundle: tuple[Path, str]) -> None:
    """The device itself, the bundle's own pipeline, and a frame, with a word about frames of others."""
    path, moment = bundle
    answered = hindsight("at", moment, "--view", "device_frames", "--key", "gate-1", "--bundle", str(path))
    assert answered.exit_code == 0
    assert "accepted_count" in answered.stdout
    assert "was made without" not in str(
        hindsight("at", moment, "--view", "alerts", "--key", PIPELINE, "--bundle", str(path)).exception
    )
    frame = hindsight("at", moment, "--view", "frame_outcomes", "--key", "nobody's", "--bundle", str(path))
    assert "frames of other devices than gate-1 are not in it" in frame.stdout


def test_a_bundle_knows_its_own_pipeline(bundle: tuple[Path, str]) -> None:
    """Whatever the settings of the machine say on which it is opened."""
    path, moment = bundle
    said = hindsight("why-not", "--device", "gate-1", "--at", moment, "--bundle", str(path)).stdout
    assert f"releases of {PIPELINE} as known at the moment" in said


def test_nothing_is_said_to_be_absent_of_a_time_that_a_bundle_does_not_hold(bundle: tuple[Path, str]) -> None:
    """After its end a bundle knows of no frame: that is no evidence that none came."""
    path, _ = bundle
    found = hindsight("why-not", "--device", "gate-1", "--at", "2026-10-01T00:00:00Z", "--bundle", str(path))
    assert isinstance(found.exception, ContractError)
    assert "is outside of" in str(found.exception)
