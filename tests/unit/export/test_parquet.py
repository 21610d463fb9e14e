"""Parquet, read back by pyarrow: rows, types and what the file says of itself."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processors.export import parquet_files
from processors.export.moments import moments
from processors.export.window import Window
from schemas.events import ResultDerived
from tests.unit.export.exporting import exported
from tests.unit.export.recorded import BOX, START_US, Recorded, a_run, observation

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(at_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_us)


def read_back(
    recorded: Recorded, folder: Path, window: Window | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    (readings, frames), _ = exported(recorded, "parquet", folder / "w.parquet", window)
    assert (readings.name, frames.name) == ("w.parquet", "w.frames.parquet")
    return pq.read_table(readings).to_pylist(), pq.read_table(frames).to_pylist()


def test_a_row_for_each_reading_with_its_result(tmp_path: Path) -> None:
    """Labels, numbers, boxes, times and positions are the log's own."""
    recorded = a_run()
    rows, _ = read_back(recorded, tmp_path)
    wanted = [
        (m, n, reading)
        for m in moments(recorded.past, Window())
        if isinstance(m.event, ResultDerived)
        for n, reading in enumerate(m.event.readings)
    ]
    assert len(rows) == len(wanted) == 4
    for row, (m, number, reading) in zip(rows, wanted, strict=True):
        assert (row["label"], row["confidence"], row["valid"]) == (reading.label, reading.confidence, reading.valid)
        assert row["polygon_px"] == list(reading.polygon_px) == list(BOX)
        assert row["captured_at"] == moment(m.event.frame.captured_at_us)
        assert row["appended_at"] == moment(m.record.appended_at_ms * 1000)
        assert (row["partition"], row["offset"], row["reading"]) == (m.record.partition, m.record.offset, number)
        assert (row["device_id"], row["sequence"], row["release"]) == (m.event.frame.device_id, m.event.frame.sequence, "r1")


def test_a_row_for_each_frame_with_what_came_of_it(tmp_path: Path) -> None:
    """Also of frames of which nothing was read, that were rejected, and that nobody had come to."""
    recorded = a_run()
    ref = recorded.ref(9, device="gate-1", image=None)
    recorded.reject(ref, recorded.capture(ref), "too_small")
    recorded.capture(recorded.ref(10, device="gate-1", image=None))
    _, frames = read_back(recorded, tmp_path)
    mine = {f["sequence"]: f for f in frames if f["device_id"] == "gate-1"}
    assert {n: f["outcome"] for n, f in mine.items()} == {
        0: "nothing_read",
        1: "nothing_read",
        2: "nothing_read",
        3: "read",
        9: "rejected",
        10: "unfinished",
    }
    assert mine[2]["alerts"] == ["unreadable_code"]
    assert (mine[9]["reasons"], mine[9]["detail"], mine[9]["width_px"]) == (["too_small"], "as the test says", None)
    assert (mine[10]["assessed_offset"], mine[10]["readings"], mine[10]["release"]) == (None, None, None)
    assert (mine[3]["candidates"], mine[3]["observations"], mine[3]["conclusion"], mine[3]["valid"]) == (
        0,
        1,
        "CSQU3054383",
        True,
    )
    assert (mine[0]["measures"], mine[0]["duration_us"]) == ([("sharpness", 50.5)], 5000)
    assert [f["corrected_from"] for f in frames if f["device_id"] == "gate-2"] == [None, None, "MSKU0000001"]


def test_types_are_what_readers_of_tables_expect(tmp_path: Path) -> None:
    """Times in microseconds UTC, texts that repeat as dictionaries, boxes as lists, a doc on each column."""
    (readings, frames), _ = exported(a_run(), "parquet", tmp_path / "w.parquet")
    for file in (readings, frames):
        schema = pq.read_schema(file)
        assert schema.field("captured_at").type == pa.timestamp("us", tz="UTC")
        assert schema.field("device_id").type == pa.dictionary(pa.int32(), pa.string())
        assert all(field.metadata[b"doc"] for field in schema)
    assert pq.read_schema(readings).field("polygon_px").type == pa.list_(pa.float64())
    assert pq.read_schema(readings).field("valid").type == pa.bool_()


def test_the_file_says_where_it_comes_from(tmp_path: Path) -> None:
    files, _ = exported(a_run(), "parquet", tmp_path / "w.parquet", Window(from_us=START_US, devices=frozenset({"gate-1"})))
    for file in files:
        about = json.loads(pq.read_schema(file).metadata[b"hindsight"])
        assert (about["source"], about["from"], about["to"], about["devices"]) == (
            "a test's log",
            "2026-09-21T14:13:20.000000Z",
            "",
            "gate-1",
        )
        assert about["written_by"].startswith("hindsight ")


def test_rows_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows, a group holds no more than it may, and none is lost between two."""
    monkeypatch.setattr(parquet_files, "ROWS_IN_A_GROUP", 4)
    recorded = Recorded()
    for n in range(4):
        recorded.frame(n, "A", "B", "C")
    recorded.frame(4)
    (readings, frames), _ = exported(recorded, "parquet", tmp_path / "w.parquet")
    # A group is written as soon as enough rows wait for it, and no group is larger than it may be.
    assert groups(readings) == [4, 2, 4, 2]
    assert pq.read_table(readings).column("sequence").to_pylist() == [n for n in range(4) for _ in range(3)]
    assert groups(frames) == [4, 1]
    assert pq.read_table(frames).column("sequence").to_pylist() == list(range(5))


def groups(file: Path) -> list[int]:
    metadata = pq.ParquetFile(file).metadata
    return [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]


def test_hostile_values_come_back_as_they_are(tmp_path: Path) -> None:
    """Labels of any signs, boxes of no size or far away, clocks out of range."""
    recorded = Recorded()
    ref = recorded.ref(0, device="漢/\u202e", image=None, captured_at_us=-(2**60))
    seen = (observation("\x00😀", polygon=()), observation("漢", index=1, polygon=(1e308, 1.0)))
    recorded.infer(ref, recorded.accept(ref, recorded.capture(ref)), seen)
    (readings, frames), _ = exported(recorded, "parquet", tmp_path / "w.parquet")
    table = pq.read_table(readings)
    assert table.column("label").to_pylist() == ["\x00😀", "漢"]
    assert table.column("polygon_px").to_pylist() == [[], [1e308, 1.0]]
    assert pq.read_table(frames).column("captured_at").cast(pa.int64()).to_pylist() == [-(2**60)]
