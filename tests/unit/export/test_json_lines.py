"""JSON Lines: every record, and the way back."""

import base64
import io
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.export.json_lines import line_of, moment_of
from processors.export.moments import Moment, moments
from processors.export.window import Window
from schemas.catalogue import FRAMES, INFERENCES
from schemas.errors import DecodeError
from streams.records import Outgoing, Record
from tests.events import any_event
from tests.unit.export.exporting import exported
from tests.unit.export.recorded import BOX, Recorded, a_run


def test_the_file_gives_back_every_event_with_its_record(tmp_path: Path) -> None:
    """Read back, the lines are the log's records in append order: positions, times, keys, headers, events."""
    recorded = a_run()
    recorded.log.append_now(
        Outgoing(topic=FRAMES, key=b"gate-1", value=b"\xff\x00not ours", headers=(("raw", b"\xfe\xff"), ("raw", b"twice")))
    )
    (file,), tally = exported(recorded, "jsonl", tmp_path / "w.jsonl")
    read = [moment_of(line) for line in file.read_text().splitlines()]
    whole = list(moments(recorded.past, Window()))
    assert [m.event for m in read] == [m.event for m in whole]
    assert [without_value(m.record) for m in read] == [without_value(m.record) for m in whole]
    (bad,) = (m for m in read if m.event is None)
    assert (bad.record.value, bad.trouble) == (
        b"\xff\x00not ours",
        "the first byte is 0xff, and not the 0x00 of the Confluent wire format",
    )
    assert (tally.records, tally.unreadable) == (len(whole), 1)


def without_value(record: Record) -> tuple[object, ...]:
    return record.topic, record.partition, record.offset, record.appended_at_ms, record.key, record.headers


@given(any_event(), st.binary(max_size=9) | st.none(), st.integers(0, 2**50), st.booleans())
def test_any_event_comes_back_exactly(event: object, key: bytes | None, at_ms: int, is_repeat: bool) -> None:
    """Every number to its last bit, every text, every header, whatever they hold; and a line stays one line."""
    headers = (("ce_id", b"\x80\xff"), ("ce_id", "ü\n".encode()))
    record = Record(topic=FRAMES, partition=1, offset=2, appended_at_ms=at_ms, key=key, value=None, headers=headers)
    moment = Moment(record=record, event=event, is_repeat=is_repeat)
    line = line_of(moment)
    assert moment_of(line) == moment
    assert len(list(io.StringIO(line, newline="\n"))) == 1


def test_a_number_that_is_not_finite_leaves_the_line_json(tmp_path: Path) -> None:
    """The event is not written, its bytes are, and every line can be read by any reader of JSON."""
    recorded = Recorded(partitions=1)
    recorded.frame(0, "A")
    (inferred,) = recorded.log.read(INFERENCES, 0, 0, 1)
    value = (inferred.value or b"").replace(struct.pack("<d", BOX[2]), struct.pack("<d", float("nan")))
    recorded.log.append_now(Outgoing(topic=INFERENCES, key=b"gate-1", value=value, headers=inferred.headers))
    (file,), _ = exported(recorded, "jsonl", tmp_path / "w.jsonl")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    said = [json.loads(line, parse_constant=refuse) for line in file.read_text().splitlines()]
    (bad,) = (one for one in said if one["type"] is None)
    assert "nan is not a finite number" in bad["trouble"]
    assert base64.b64decode(bad["value"]["base64"]) == value


@pytest.mark.parametrize("line", ["", "{}", "[]", '"x"', '{"topic": "vision.frames"}', "null"])
def test_what_is_no_line_of_an_export_is_refused(line: str) -> None:
    with pytest.raises(DecodeError):
        moment_of(line)
