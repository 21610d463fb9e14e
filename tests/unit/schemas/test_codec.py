"""Bytes that are not what they claim to be are told apart, and what an event cannot hold is not written."""

import json
import struct
from dataclasses import replace

import pytest

from schemas import avro_files
from schemas.catalogue import ASSESSMENTS, COMMANDS, EVENT_BY_NAME, FRAMES, TOPIC_OF, subject
from schemas.codec import FixedSchemas, body_of, decode, encode, unframe
from schemas.errors import ContractError, DecodeError, UnknownEventError
from schemas.events import FrameAccepted, FrameCaptured
from tests.given import accepted, captured

SCHEMAS = FixedSchemas()
BYTES = encode(captured(3), SCHEMAS)


def test_the_wire_format_is_confluents() -> None:
    """A zero byte, the schema id in four bytes with the highest first, then the Avro body."""
    magic, number = struct.unpack(">bI", BYTES[:5])
    assert (magic, number) == (0, SCHEMAS.id_of(FrameCaptured))
    assert unframe(BYTES) == (number, body_of(captured(3)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "too short"),
        (b"", "too short"),
        (b"\x00\x00\x00\x00", "too short"),
        (b"\x01" + BYTES[1:], "0x01"),
        (b"\xff" + BYTES[1:], "0xff"),
        (b"\x00" + struct.pack(">I", 4_000_000_000) + BYTES[5:], "4000000000 is not known"),
        (BYTES[:5], "not a hindsight.frames.FrameCaptured"),
        (BYTES[:-1], "not a hindsight.frames.FrameCaptured"),
        (BYTES[:5] + b"\xff" * 40, "not a hindsight.frames.FrameCaptured"),
        (BYTES + b"\x00", "left over"),
    ],
)
def test_bad_bytes_are_a_decode_error_that_says_what_is_wrong(value: bytes | None, said: str) -> None:
    """Wrong magic, unknown id, cut off, corrupt, too long: each is a DecodeError with its reason."""
    with pytest.raises(DecodeError, match=said):
        decode(value, FRAMES, SCHEMAS)


def test_an_event_of_another_topic_is_unknown_here() -> None:
    """A well-formed event on the wrong topic is refused, with the name of both."""
    with pytest.raises(UnknownEventError, match=rf"{ASSESSMENTS} does not hold hindsight.frames.FrameCaptured"):
        decode(BYTES, ASSESSMENTS, SCHEMAS)
    with pytest.raises(UnknownEventError):
        decode(BYTES, COMMANDS, SCHEMAS)


class _Registry(FixedSchemas):
    """A registry that holds one more schema, by the id 99."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def schema_of(self, schema_id: int) -> str:
        return self._text if schema_id == 99 else super().schema_of(schema_id)


@pytest.mark.parametrize("text", ["", "[]", '"string"', '{"type":"record"}', '{"type":"record","name":"A","fields":[]}'])
def test_a_registered_schema_that_is_not_ours_is_a_decode_error(text: str) -> None:
    """The registry may hold anything that others registered; none of it stops a reader."""
    with pytest.raises((DecodeError, UnknownEventError)):
        decode(b"\x00" + struct.pack(">I", 99) + b"x", FRAMES, _Registry(text))


def test_a_namesake_from_elsewhere_is_not_ours() -> None:
    """An event is known by its full name."""
    schema = json.loads(avro_files.latest("FrameCaptured")) | {"namespace": "elsewhere"}
    with pytest.raises(UnknownEventError):
        decode(b"\x00" + struct.pack(">I", 99) + BYTES[5:], FRAMES, _Registry(json.dumps(schema)))


def test_what_a_later_version_added_is_passed_over() -> None:
    """A writer with one field more, which has a default, is read by Avro's rules."""
    schema = json.loads(avro_files.latest("FrameCaptured"))
    schema["fields"].append({"name": "new_field", "type": "string", "doc": "New.", "default": ""})
    value = b"\x00" + struct.pack(">I", 99) + BYTES[5:] + b"\x04hi"
    assert decode(value, FRAMES, _Registry(json.dumps(schema))) == captured(3)


def test_what_an_event_cannot_hold_is_not_written() -> None:
    """A field of another type, a number that is too large, half of a surrogate pair: refused before any byte is sent."""
    for bad in (
        replace(captured(0), channel=None),
        replace(captured(0), received_at_us=2**70),
        replace(captured(0), channel="\ud800"),
    ):
        with pytest.raises(ContractError, match="FrameCaptured cannot be written"):
            encode(bad, SCHEMAS)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_neither_written_nor_read(number: float) -> None:
    """Avro holds NaN and infinity, and JSON does not: no event brings one to a view, whoever wrote its bytes."""
    event = replace(accepted(), measures={"sharpness": 1234.5})
    with pytest.raises(ContractError, match="FrameAccepted cannot be written"):
        encode(replace(event, measures={"sharpness": number}), SCHEMAS)
    value = encode(event, SCHEMAS)
    spoilt = value.replace(struct.pack("<d", 1234.5), struct.pack("<d", number))
    assert spoilt != value
    with pytest.raises(DecodeError, match="not a finite number"):
        decode(spoilt, ASSESSMENTS, SCHEMAS)


def test_each_event_has_a_topic_a_name_and_a_subject_of_its_own() -> None:
    """TopicRecordNameStrategy, with the namespace in front."""
    assert subject(FrameAccepted, prefix="t1.") == "t1.vision.assessments-hindsight.assessments.FrameAccepted"
    assert len({subject(e) for e in TOPIC_OF}) == len(EVENT_BY_NAME)


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "fixed", "name": "f", "size": 0},
        {"type": "record", "name": "r", "fields": [{"name": "n", "type": "null"}]},
    ],
    ids=["null", "fixed", "record"],
)
def test_an_array_of_nothing_is_refused(items: object) -> None:
    """Items that take no bytes can be as many as eleven bytes can say: a bundle's own schema would make any command hang."""
    schema = json.loads(avro_files.latest("FrameCaptured"))
    schema["fields"].insert(0, {"name": "extra", "type": {"type": "array", "items": items}})

    class Theirs(FixedSchemas):
        def schema_of(self, schema_id: int) -> str:
            return json.dumps(schema)

    with pytest.raises(DecodeError, match="items of an array take no bytes"):
        decode(b"\0\0\0\0\1" + b"\xfe" * 8 + b"\x01\0", "vision.frames", Theirs())
