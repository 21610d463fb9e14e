"""Rerun, read back by its own recordings."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import rerun as rr

from processors.export.moments import moments
from processors.export.window import Window
from schemas.events import FrameCaptured, InferenceCompleted
from tests.unit.export.exporting import exported
from tests.unit.export.recorded import BOX, Recorded, a_run, candidate, picture


def column(file: Path, entity: str, component: str, *, index: str) -> list[tuple[int, Any]]:
    """(microseconds on the timeline, value) of one component of one entity, in the timeline's order."""
    recording = rr.dataframe.load_recording(file)
    table = recording.view(index=index, contents=entity).select().read_all()
    (name,) = (n for n in table.schema.names if n.endswith(f"{entity}:{component}"))
    times = table.column(index).cast(pa.int64()).to_pylist()
    return [(at // 1000, value) for at, value in zip(times, table.column(name).to_pylist(), strict=True) if value is not None]


def frames_of(recorded: Recorded, kind: type, device: str = "gate-1") -> list[Any]:
    return [m for m in moments(recorded.past, Window()) if isinstance(m.event, kind) and m.event.frame.device_id == device]


def test_images_are_the_stored_bytes_on_both_timelines(tmp_path: Path) -> None:
    """Each frame once, byte for byte: by the device's clock and by the broker's."""
    recorded = a_run()
    (file,), tally = exported(recorded, "rrd", tmp_path / "w.rrd")
    frames = frames_of(recorded, FrameCaptured)
    stored = [recorded.blobs.get(m.event.frame.blob) for m in frames]
    by_capture = column(file, "/gate-1/image", "Blob", index="captured")
    assert [at for at, _ in by_capture] == [m.event.frame.captured_at_us for m in frames]
    assert [bytes(blob) for _, (blob,) in by_capture] == stored
    by_append = column(file, "/gate-1/image", "Blob", index="appended")
    assert [at for at, _ in by_append] == [m.record.appended_at_ms * 1000 for m in frames]
    assert {kind for _, (kind,) in column(file, "/gate-1/image", "MediaType", index="captured")} == {"image/png"}
    assert (tally.images, tally.records) == (7, len(list(moments(recorded.past, Window()))))


def test_boxes_stand_where_things_were_seen(tmp_path: Path) -> None:
    """One row a frame, empty where nothing was seen, with the capture's time as the image has."""
    recorded = a_run()
    (file,), _ = exported(recorded, "rrd", tmp_path / "w.rrd")
    captures = [m.event.frame.captured_at_us for m in frames_of(recorded, InferenceCompleted)]
    labels = column(file, "/gate-1/image/observations", "Text", index="captured")
    assert labels == list(zip(captures, [[], [], [], ["CSQU3054383 0.91"]], strict=True))
    centers = column(file, "/gate-1/image/observations", "Position2D", index="captured")
    halves = column(file, "/gate-1/image/observations", "HalfSize2D", index="captured")
    assert (centers[3][1], halves[3][1]) == ([[200.0, 230.0]], [[100.0, 30.0]])
    ((_, (strip,)),) = [
        row for row in column(file, "/gate-1/image/observations/outline", "LineStrip2D", index="captured") if row[1]
    ]
    assert [value for point in strip for value in point] == [*BOX, *BOX[:2]]
    left_out = column(file, "/gate-1/image/candidates", "Text", index="captured")
    assert [texts for _, texts in left_out] == [["MSK? 0.20 (score)"]] * 3 + [[]]


def test_the_log_tells_alerts_and_releases(tmp_path: Path) -> None:
    (file,), _ = exported(a_run(), "rrd", tmp_path / "w.rrd")
    lines = [text for _, (text,) in column(file, "/log", "Text", index="appended")]
    levels = [level for _, (level,) in column(file, "/log", "TextLogLevel", index="appended")]
    assert [line.split(": ")[0] for line in lines] == ["gate", "gate-1", "gate", "gate-1"]
    assert levels == ["INFO", "WARN", "INFO", "INFO"]


def test_the_recording_says_where_it_comes_from_and_keeps_its_id(tmp_path: Path) -> None:
    """The same window of the same log is the same recording; another window is another."""
    recorded = a_run()
    first, again = (exported(recorded, "rrd", tmp_path / name)[0][0] for name in ("a.rrd", "b.rrd"))
    (other,), _ = exported(recorded, "rrd", tmp_path / "c.rrd", Window(from_us=1))
    ids = [rr.dataframe.load_recording(file).recording_id() for file in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    table = rr.dataframe.load_recording(first).view(index="captured", contents="/**").select_static().read_all()
    ((about,),) = table.column(next(n for n in table.schema.names if "/about" in n)).to_pylist()
    assert json.loads(about)["source"] == "a test's log"


def test_hostile_frames_leave_a_file_that_can_be_read(tmp_path: Path) -> None:
    """No picture, no image, clocks out of range, names and labels of any signs, boxes of no size."""
    recorded = Recorded()
    recorded.frame(0, "x", image=None, device="a/b c'\"漢")
    recorded.frame(1, "漢字\u202e\x00😀", image=b"no image", polygon=(5, 5, 5, 5, 5, 5))
    recorded.frame(2, "x", image=picture(2, ending=".bmp"), captured_at_us=-5, polygon=())
    recorded.frame(3, "x", captured_at_us=2**62, polygon=(1e300, -1e300, 3), candidates=(candidate("", polygon=(1,)),))
    (file,), tally = exported(recorded, "rrd", tmp_path / "w.rrd")
    images = column(file, "/gate-1/image", "Blob", index="captured")
    assert [at for at, _ in images] == [0, 1_790_000_000_100_000, 9_000_000_000_000_000]
    assert bytes(images[1][1][0])[:4] == b"\x89PNG"
    labels = column(file, "/gate-1/image/observations", "Text", index="appended")
    assert [texts for _, texts in labels] == [["漢字\u202e\x00😀 0.91"], [], ["x 0.91"]]
    paths = {str(c.entity_path) for c in rr.dataframe.load_recording(file).schema().component_columns()}
    assert any("漢" in path and path.endswith("/image") for path in paths)
    assert (tally.images, sum(tally.missing.values())) == (2, 2)
