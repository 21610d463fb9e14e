"""Exports of an incident bundle are those of the log that it was made of."""

from pathlib import Path

import pytest

from processors.export.window import Window
from streams.bundle import open_bundle
from tests.bundles import bundled
from tests.unit.export.exporting import exported
from tests.unit.export.recorded import Recorded, a_run
from topology.cli import main


@pytest.fixture
def incident(tmp_path: Path) -> tuple[Recorded, Path, int]:
    """A run, a bundle of its later part, and where that begins."""
    recorded = a_run()
    records = sorted(r.appended_at_ms for r in recorded.log.read("vision.frames", 1, 0, 99))
    from_us = records[1] * 1000
    bundled(recorded.past, tmp_path / "i.hsb", from_us=from_us)
    return recorded, tmp_path / "i.hsb", from_us


def test_an_export_of_a_bundle_is_that_of_the_log(incident: tuple[Recorded, Path, int], tmp_path: Path) -> None:
    """The same records, events, positions and images of the bundle's window, byte for byte where the format is."""
    recorded, bundle, from_us = incident
    (live,), _ = exported(recorded, "jsonl", tmp_path / "live.jsonl", Window(from_us=from_us))
    from_bundle = tmp_path / "bundle.jsonl"
    with pytest.raises(SystemExit) as ended:
        main(["export", "--bundle", str(bundle), "-o", str(from_bundle)])
    assert ended.value.code == 0
    assert from_bundle.read_text() == live.read_text()
    for name in ("mcap", "rrd", "mp4", "parquet"):
        with open_bundle(bundle) as past:
            twin = Recorded()
            twin.log, twin.schemas, twin.blobs = past.log, past.schemas, past.blobs  # type: ignore[assignment]
            window = Window(from_us=from_us, devices=frozenset({"gate-1"}))
            _, counted = exported(twin, name, tmp_path / f"bundle.{name}", window)
        _, expected = exported(recorded, name, tmp_path / f"live.{name}", window)
        assert (counted.records, counted.images, counted.events) == (expected.records, expected.images, expected.events)
        assert counted.records > 2


def test_what_a_bundle_does_not_hold_is_said(
    incident: tuple[Recorded, Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A moment before the bundle's window ends with 1 and a sentence, not with an export that looks whole."""
    _, bundle, _ = incident
    with pytest.raises(SystemExit) as ended:
        main(["export", "--bundle", str(bundle), "--from", "2020-01-01T00:00:00Z", "-o", str(tmp_path / "x.jsonl")])
    assert ended.value.code == 1
    assert "is outside of" in capsys.readouterr().err
    assert not (tmp_path / "x.jsonl").exists()
