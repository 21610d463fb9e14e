"""MCAP, read back by its own library with the schemas that the file carries."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

from processors.export import said
from processors.export.moments import Moment, moments
from processors.export.window import Window
from schemas.events import FrameCaptured, InferenceCompleted
from schemas.plain import from_plain
from tests.unit.export.exporting import exported
from tests.unit.export.recorded import BOX, Recorded, a_run, candidate, picture

Read = list[tuple[Any, Any, Any, Any]]


def read_back(file: Path) -> Read:
    """(schema, channel, message, decoded) of every message, in the file's order."""
    with file.open("rb") as opened:
        reader = make_reader(opened, decoder_factories=[DecoderFactory()], validate_crcs=True)
        found = []
        for schema, channel, message in reader.iter_messages(log_time_order=False):
            assert schema is not None
            if schema.encoding == "protobuf":
                decoder = DecoderFactory().decoder_for(channel.message_encoding, schema)
                assert decoder is not None
                found.append((schema, channel, message, decoder(message.data)))
            else:
                found.append((schema, channel, message, json.loads(message.data)))
        return found


def on(topic: str, found: Read) -> list[tuple[Any, Any]]:
    return [(message, decoded) for _, channel, message, decoded in found if channel.topic == topic]


def events_of(recorded: Recorded) -> list[Moment]:
    return [m for m in moments(recorded.past, Window()) if m.event is not None and not m.is_repeat]


def test_every_event_is_there_once_with_both_its_times(tmp_path: Path) -> None:
    """The JSON channels give back each event, its position, when it was appended, and when it was true."""
    recorded = a_run()
    (file,), tally = exported(recorded, "mcap", tmp_path / "w.mcap")
    found = read_back(file)
    whole = events_of(recorded)
    events = [(c.topic, m, d) for s, c, m, d in found if s.encoding == "jsonschema"]
    assert [topic for topic, _, _ in events] == [f"/events/{type(m.event).__name__}" for m in whole]
    for (_, message, plain), moment in zip(events, whole, strict=True):
        assert from_plain(type(moment.event), plain["event"]) == moment.event
        assert plain["record"]["offset"] == moment.record.offset
        assert message.log_time == moment.record.appended_at_ms * 1_000_000
        if hasattr(moment.event, "frame"):
            assert message.publish_time == moment.event.frame.captured_at_us * 1000
    promoted = [message.publish_time for topic, message, _ in events if topic == "/events/ReleasePromoted"]
    assert promoted == [m.event.promoted_at_us * 1000 for m in whole if hasattr(m.event, "promoted_at_us")]
    assert tally.records == len(whole)


def test_channels_have_the_schemas_that_foxglove_knows(tmp_path: Path) -> None:
    """One message a frame on each of a device's topics, and the summary counts them."""
    (file,), _ = exported(a_run(), "mcap", tmp_path / "w.mcap")
    kinds = {(c.topic, s.name, c.message_encoding) for s, c, _, _ in read_back(file) if not c.topic.startswith("/events/")}
    assert kinds == {
        *((f"/gate-{n}/image", "foxglove.CompressedImage", "protobuf") for n in (1, 2)),
        *((f"/gate-{n}/annotations", "foxglove.ImageAnnotations", "protobuf") for n in (1, 2)),
        *((f"/gate-{n}/candidates", "foxglove.ImageAnnotations", "protobuf") for n in (1, 2)),
        ("/log", "foxglove.Log", "protobuf"),
    }
    with file.open("rb") as opened:
        summary = make_reader(opened).get_summary()
    assert summary is not None
    assert summary.statistics is not None
    counts = Counter({summary.channels[c].topic: n for c, n in summary.statistics.channel_message_counts.items()})
    assert (counts["/gate-1/image"], counts["/gate-2/image"], counts["/gate-1/annotations"]) == (4, 3, 4)
    assert counts["/events/FrameCaptured"] == 7


def test_an_image_is_the_stored_bytes_at_the_frames_time(tmp_path: Path) -> None:
    """Byte for byte, with the capture as its timestamp, which its annotations have too."""
    recorded = a_run()
    (file,), tally = exported(recorded, "mcap", tmp_path / "w.mcap")
    found = read_back(file)
    frames = [m.event.frame for m in events_of(recorded) if isinstance(m.event, FrameCaptured)]
    wanted = [f for f in frames if f.device_id == "gate-1"]
    images = [image for _, image in on("/gate-1/image", found)]
    assert [image.data for image in images] == [recorded.blobs.get(f.blob) for f in wanted]
    assert [micros(image.timestamp) for image in images] == [f.captured_at_us for f in wanted]
    assert {image.format for image in images} == {"png"}
    assert [micros(a.timestamp) for _, a in on("/gate-1/annotations", found)] == [f.captured_at_us for f in wanted]
    assert (tally.images, dict(tally.missing)) == (7, {})


def test_annotations_are_what_was_seen_and_candidates_what_was_left_out(tmp_path: Path) -> None:
    """Points and texts of each, in two colours; a frame with nothing on it clears what the one before showed."""
    recorded = a_run()
    (file,), _ = exported(recorded, "mcap", tmp_path / "w.mcap")
    found = read_back(file)
    seen = [a for _, a in on("/gate-1/annotations", found)]
    left_out = [a for _, a in on("/gate-1/candidates", found)]
    assert [[t.text for t in a.texts] for a in seen] == [[], [], [], ["CSQU3054383 0.91"]]
    assert [[t.text for t in a.texts] for a in left_out] == [["MSK? 0.20 (score)"]] * 3 + [[]]
    (points,) = seen[3].points
    assert points.type == points.LINE_LOOP
    assert [v for p in points.points for v in (p.x, p.y)] == list(BOX)
    assert rgb(points.outline_color) == said.OBSERVED_RGB
    assert rgb(left_out[0].points[0].outline_color) == rgb(left_out[0].texts[0].text_color) == said.CANDIDATE_RGB


def test_the_log_says_what_changed(tmp_path: Path) -> None:
    """Alerts and releases, with their level and the record they come from."""
    (file,), _ = exported(a_run(), "mcap", tmp_path / "w.mcap")
    lines = [(line.level, line.name, line.message) for _, line in on("/log", read_back(file))]
    assert [name for _, name, _ in lines] == ["gate", "gate-1", "gate", "gate-1"]
    assert [level for level, _, _ in lines] == [2, 3, 2, 2]
    assert lines[0][2] == "release r1 promoted by eve, before it none"
    assert lines[1][2].startswith("alert unreadable_code: no valid container code after 3 frames")


def test_hostile_frames_leave_a_file_that_can_be_read(tmp_path: Path) -> None:
    """No picture, no image, BMP, clocks out of range, labels of any signs, boxes of no size or far away."""
    recorded = Recorded()
    recorded.frame(0, "x", image=None, device="a/b %2F")
    recorded.frame(1, "漢字\u202e\x00😀", image=b"no image", polygon=(5, 5, 5, 5, 5, 5))
    recorded.frame(2, "x", image=picture(2, ending=".bmp"), captured_at_us=-5, polygon=())
    recorded.frame(3, "x", captured_at_us=2**62, polygon=(1e300, -1e300, 7.0), candidates=(candidate("", polygon=(1,)),))
    (file,), tally = exported(recorded, "mcap", tmp_path / "w.mcap")
    found = read_back(file)
    ((_, gone),) = on("/a%2Fb %252F/image", found)
    assert (gone.format, gone.data[:4]) == ("png", b"\x89PNG")
    images = [image for _, image in on("/gate-1/image", found)]
    assert {image.format for image in images} == {"png"}
    assert [micros(image.timestamp) for image in images][1:] == [0, 9_000_000_000_000_000]
    texts = [[t.text for t in a.texts] for _, a in on("/gate-1/annotations", found)]
    assert texts == [["漢字\u202e\x00😀 0.91"], [], ["x 0.91"]]
    assert (tally.images, sum(tally.missing.values()), tally.unreadable) == (2, 2, 0)


def test_repeats_are_left_out(tmp_path: Path) -> None:
    recorded = a_run()
    before, _ = exported(recorded, "mcap", tmp_path / "before.mcap")
    inferences = [m for m in events_of(recorded) if isinstance(m.event, InferenceCompleted)]
    recorded.append(inferences[-1].event, writer="infer", partition=inferences[-1].record.partition)
    after, tally = exported(recorded, "mcap", tmp_path / "after.mcap")
    assert tally.repeats == 1
    assert [m.data for _, _, m, _ in read_back(after[0])] == [m.data for _, _, m, _ in read_back(before[0])]


def test_json_channels_describe_every_field(tmp_path: Path) -> None:
    """The schema in the file names each field of the event that is written, with a description."""
    recorded = a_run()
    (file,), _ = exported(recorded, "mcap", tmp_path / "w.mcap")
    for schema, _, _, plain in read_back(file):
        if schema.encoding == "jsonschema":
            described = json.loads(schema.data)["properties"]["event"]
            assert list(described["properties"]) == described["required"] == list(plain["event"])
            assert all("description" in field for field in described["properties"].values())


def rgb(color: Any) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in (color.r, color.g, color.b))


def micros(timestamp: Any) -> int:
    return int(timestamp.seconds * 1_000_000 + timestamp.nanos // 1000)
