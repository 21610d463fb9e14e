"""Every event survives its bytes, every byte string is stood, and old bytes are read for ever."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import avro_files
from schemas.catalogue import EVENT_BY_NAME, TOPIC_OF, TOPICS
from schemas.codec import FixedSchemas, decode, encode
from schemas.errors import ContractError, DecodeError, UnknownEventError
from schemas.plain import canonical_json, from_plain, to_plain
from tests.events import any_event, any_of

SCHEMAS = FixedSchemas()
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "event_bytes"
OLD = [(event, version) for event in sorted(EVENT_BY_NAME) for version in avro_files.versions(event)]


@pytest.mark.parametrize("event", sorted(EVENT_BY_NAME))
def test_an_event_survives_its_bytes(event: str) -> None:
    """decode(encode(e)) == e for every event of every type, and the same event gives the same bytes."""

    @given(any_of(EVENT_BY_NAME[event]))
    def holds(e: Any) -> None:
        written = encode(e, SCHEMAS)
        assert decode(written, TOPIC_OF[type(e)], SCHEMAS) == e
        assert encode(decode(written, TOPIC_OF[type(e)], SCHEMAS), SCHEMAS) == written

    holds()


@given(any_event())
def test_an_event_survives_json(event: Any) -> None:
    """The canonical JSON of an event reads back as the event, so views can hold events whole."""
    assert from_plain(type(event), json.loads(canonical_json(event))) == event


_TOPICS = st.sampled_from(sorted(TOPICS))
_MAGIC = st.sampled_from([b"\x00", b"\x01", b""])
_ID = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1)).map(lambda n: struct.pack(">I", n))


@given(_TOPICS, st.one_of(st.none(), st.binary(max_size=60), st.tuples(_MAGIC, _ID, st.binary(max_size=300)).map(b"".join)))
def test_decoding_stands_every_byte_string(topic: str, value: bytes | None) -> None:
    """Nothing but a DecodeError or an UnknownEventError comes out, whatever goes in."""
    try:
        event = decode(value, topic, SCHEMAS)
    except (DecodeError, UnknownEventError):
        return
    assert type(event) in TOPICS[topic].events


@given(any_event(), st.data())
def test_decoding_stands_damaged_events(event: Any, data: st.DataObject) -> None:
    """An event with a few bytes changed, cut or put in is an event or a contract error, and can be written again if it is one."""
    value = bytearray(encode(event, SCHEMAS))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(value) - 1))
        match data.draw(st.sampled_from(["change", "cut", "put"])):
            case "change":
                value[place] = data.draw(st.integers(0, 255))
            case "cut" if place:
                del value[place:]
            case _:
                value[place:place] = data.draw(st.binary(max_size=4))
    try:
        found = decode(bytes(value), TOPIC_OF[type(event)], SCHEMAS)
    except (DecodeError, UnknownEventError):
        return
    encode(found, SCHEMAS)


@pytest.mark.parametrize(("event", "version"), OLD)
def test_old_bytes_are_read_for_ever(event: str, version: int) -> None:
    """Bytes that each published version wrote, kept since then, give the event that they stood for."""
    kept = json.loads((FIXTURES / f"{event}.v{version}.json").read_text(encoding="utf-8"))
    schemas = _WroteThen(event, version)
    for one in kept:
        value = b"\x00\x00\x00\x03\xe8" + bytes.fromhex(one["avro_hex"])
        cls = EVENT_BY_NAME[event]
        assert decode(value, TOPIC_OF[cls], schemas) == from_plain(cls, one["event"])


class _WroteThen(FixedSchemas):
    """Id 1000 is one published version of one event."""

    def __init__(self, event: str, version: int) -> None:
        super().__init__()
        self._text = avro_files.schema_text(event, version)

    def schema_of(self, schema_id: int) -> str:
        return self._text if schema_id == 1000 else super().schema_of(schema_id)


@given(any_event())
def test_what_cannot_be_written_is_a_contract_error(event: Any) -> None:
    """A wrong value in any field is refused as one, and never writes half an event."""
    wrong = object.__new__(type(event))
    for name in type(event).__dataclass_fields__:
        object.__setattr__(wrong, name, object())
    with pytest.raises(ContractError):
        encode(wrong, SCHEMAS)


@given(any_event())
def test_canonical_json_is_the_json_of_the_plain_event(event: Any) -> None:
    """The quick way to the bytes gives what the plain way gives, for every event and every value."""
    plain = json.dumps(to_plain(event), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical_json(event) == plain.encode()
