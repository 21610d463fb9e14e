"""What a tired hand may type: refused as a wrong command, before anything is answered."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from schemas.envelope import rfc3339
from schemas.errors import BundleError, ConfigurationError
from tests.bundles import World, bundled
from topology.cli import build_app


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """How a bundle of gate-1 is asked, and its last moment."""
    monkeypatch.setenv("HINDSIGHT_HOME", str(tmp_path))
    world = World(partitions=1)
    world.pass_by("gate-1", 0)
    path = tmp_path / "a.hsb"
    bundled(world.past(), path, from_us=0, to_us=world.now_us, devices=None)
    return "--bundle", str(path), rfc3339(world.now_us)


def hindsight(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(), list(arguments))


def test_a_window_that_ends_before_it_begins_is_refused(asked: tuple[str, ...]) -> None:
    """It holds nothing, and "there are no results" would be taken for an answer."""
    window = ("--from", "2026-11-22T04:00:00Z", "--to", "2026-11-22T03:00:00Z")
    found = hindsight("bisect", *window, "--where", "outcome == 'read'", *asked[:2])
    assert isinstance(found.exception, ConfigurationError)
    assert "ends before it begins" in str(found.exception)


@pytest.mark.parametrize("around", ["nan", "inf", "-5", "1e30"])
def test_events_are_shown_around_a_moment_for_a_number_of_seconds(asked: tuple[str, ...], around: str) -> None:
    """What is no such number is named, and no crash."""
    found = hindsight("at", asked[2], "--device", "gate-1", "--around", around, *asked[:2])
    assert (found.exit_code, "--around" in found.output) == (2, True)


def test_a_video_frame_stands_for_a_number_of_seconds(asked: tuple[str, ...], tmp_path: Path) -> None:
    """Without end is written as 0, and said so."""
    found = hindsight("export", "-o", str(tmp_path / "w.mp4"), "--longest-gap", "inf", *asked[:2])
    assert (found.exit_code, "--longest-gap" in found.output) == (2, True)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "x", ""])
def test_a_threshold_is_a_number(asked: tuple[str, ...], value: str) -> None:
    """Nothing is above nan: every reading would be lost, and JSON has no such number."""
    found = hindsight("whatif", "--from", "yesterday", "--threshold", f"text_confidence={value}", *asked[:2])
    assert isinstance(found.exception, ConfigurationError)
    assert "is no threshold" in str(found.exception)


@pytest.mark.parametrize("text", ["", "  "])
def test_to_expect_nothing_is_no_question(asked: tuple[str, ...], text: str) -> None:
    """An empty variable of a script must not be taken for a text that every short reading comes near."""
    found = hindsight("why-not", "--device", "gate-1", "--at", asked[2], "--expect", text, *asked[:2])
    assert isinstance(found.exception, ConfigurationError)
    assert "nothing is expected" in str(found.exception)


def test_what_lies_after_a_bundle_is_not_said_to_be_absent(asked: tuple[str, ...]) -> None:
    """The window is told as far as the bundle goes, and nothing is said of what has come since."""
    found = hindsight("why-not", "--device", "gate-8", "--at", asked[2], "--format", "json", *asked[:2])
    assert found.exit_code == 0
    assert "none has come since" not in found.stdout
    assert f"is not in {asked[1]}" in found.stdout


def test_an_erasure_that_reaches_out_of_a_bundle_says_so(asked: tuple[str, ...]) -> None:
    """That a copy of another time holds no frames says nothing of what the order would erase."""
    span = ("--from", "1960-01-01T00:00:00Z", "--to", "1960-01-02T00:00:00Z")
    found = hindsight("erase", "--device", "gate-1", *span, "--order", "X-1", "--dry-run", *asked[:2])
    assert (found.exit_code, "the window is cut to that" in found.stderr) == (0, True)


def test_a_damaged_record_says_what_to_do(asked: tuple[str, ...]) -> None:
    """Not only which part of the bundle it is in."""
    path = Path(asked[1])
    whole = bytearray(path.read_bytes())
    whole[512] ^= 0xFF
    path.write_bytes(whole)
    found = hindsight("export", "-o", str(path.with_suffix(".jsonl")), *asked[:2])
    assert isinstance(found.exception, BundleError)
    assert "hindsight bundle verify" in found.exception.do
