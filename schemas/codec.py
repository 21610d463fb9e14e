"""Events to bytes and back: Avro in the Confluent wire format (a zero byte, a four-byte schema id, the Avro body).

Encoding the same event with the same schema id gives the same bytes. Decoding resolves whatever version wrote the
bytes to the newest one by Avro's own rules. The ids belong to a registry, which `Schemas` stands for; `streams` has
the one that asks a real registry.
"""

import io
import json
import struct
from functools import cache
from typing import Any, Protocol

import fastavro

from schemas import avro_files
from schemas.catalogue import EVENT_BY_NAME, TOPICS, full_name
from schemas.errors import ContractError, DecodeError, UnknownEventError
from schemas.plain import from_plain, to_plain

_HEADER = struct.Struct(">bI")


class Schemas(Protocol):
    """Schema ids of one registry."""

    def id_of(self, event: type) -> int:
        """Id under which the newest schema of an event is registered.

        Raises:
            RegistryUnavailableError: the registry does not answer.
        """

    def schema_of(self, schema_id: int) -> str:
        """JSON text of a schema.

        Raises:
            DecodeError: the registry does not know the id.
            RegistryUnavailableError: the registry does not answer.
        """


def encode(event: Any, schemas: Schemas) -> bytes:
    """One event in the Confluent wire format.

    Raises:
        ContractError: a field holds what its Avro type cannot.
        RegistryUnavailableError: the registry does not answer.
    """
    return _HEADER.pack(0, schemas.id_of(type(event))) + body_of(event)


def body_of(event: Any) -> bytes:
    """The event's Avro body by its newest schema.

    Raises:
        ContractError: a field holds what its Avro type cannot.
    """
    out, name = io.BytesIO(), type(event).__name__
    try:
        fastavro.schemaless_writer(out, _newest(name), to_plain(event))
    except (TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        raise ContractError(f"a {name} cannot be written: {error}") from error
    return out.getvalue()


def decode(value: bytes | None, topic: str, schemas: Schemas) -> Any:
    """The event in a record of `topic`.

    Raises:
        DecodeError: too long for the topic, wrong magic byte, unknown schema id, or a body that is not what the schema says.
        UnknownEventError: a well-formed event that this topic does not hold.
    """
    if value is not None and len(value) > TOPICS[topic].longest_bytes:
        raise DecodeError(f"{len(value)} bytes, and {topic} holds records of at most {TOPICS[topic].longest_bytes}")
    schema_id, body = unframe(value)
    writer, name, event, reader = _writer_schema(schemas.schema_of(schema_id))
    if event is None or event not in TOPICS[topic].events:
        raise UnknownEventError(f"{topic} does not hold {name} (schema id {schema_id})")
    stream = io.BytesIO(body)
    try:
        plain = fastavro.schemaless_reader(stream, writer, reader)
    except Exception as error:  # fastavro raises whatever the bytes lead it into: EOFError, IndexError, struct.error
        raise DecodeError(f"the body is not a {name}: {error!r}") from error
    if stream.read(1):
        raise DecodeError(f"bytes are left over after a {name}")
    return from_plain(event, plain)


def unframe(value: bytes | None) -> tuple[int, bytes]:
    """Schema id and Avro body of a record's value.

    Raises:
        DecodeError: too short, or the first byte is not zero.
    """
    if value is None or len(value) < _HEADER.size:
        raise DecodeError("too short for the Confluent wire format (five bytes of magic and schema id)")
    magic, schema_id = _HEADER.unpack_from(value)
    if magic != 0:
        raise DecodeError(f"the first byte is {value[0]:#04x}, and not the 0x00 of the Confluent wire format")
    return schema_id, value[_HEADER.size :]


@cache
def _newest(event_name: str) -> Any:
    return fastavro.parse_schema(avro_files.without_logical_types(json.loads(avro_files.latest(event_name))))


@cache
def _writer_schema(text: str) -> tuple[Any, str, type | None, Any]:
    """The schema that wrote, its name, the event that has the name, and the schema to read by: None where it is the same."""
    try:
        schema = json.loads(text)
        parsed = fastavro.parse_schema(avro_files.without_logical_types(schema))
        name = f"{schema['namespace']}.{schema['name']}"
        _hold_items(parsed, {})
    except Exception as error:  # the registry may hold anything that others registered
        raise DecodeError(f"the registered schema is not one of ours: {error!r}") from error
    event = EVENT_BY_NAME.get(name.rpartition(".")[2])
    if event is None or full_name(event) != name:
        return parsed, name, None, None
    newest = _newest(event.__name__)
    # The library would compare the two for each record.
    return parsed, name, event, None if parsed == newest else newest


def _hold_items(schema: Any, named: dict[str, bool]) -> bool:
    """Whether a value of a parsed schema takes a byte at least.

    Raises:
        ValueError: items of an array take none: eleven bytes would say that there are 2 ** 60 of them, and be believed.
    """
    if isinstance(schema, list):
        for branch in schema:
            _hold_items(branch, named)
        return True
    kind = schema["type"] if isinstance(schema, dict) else schema
    match kind:
        case "array":
            if not _hold_items(schema["items"], named):
                raise ValueError("items of an array take no bytes")
        case "map":
            _hold_items(schema["values"], named)
        case "null":
            return False
        case "fixed":
            named[schema["name"]] = int(schema["size"]) > 0
            return named[schema["name"]]
        case "record" | "error":
            named[schema["name"]] = False
            taken = [_hold_items(field["type"], named) for field in schema["fields"]]
            named[schema["name"]] = any(taken)
            return named[schema["name"]]
        case dict() | list():
            return _hold_items(kind, named)
        case str() if kind in named:
            return named[kind]
    return True


class FixedSchemas:
    """Ids numbered in the catalogue's order: for tests and for anything that needs no registry."""

    def __init__(self) -> None:
        self._ids = {event: number for number, event in enumerate(EVENT_BY_NAME.values(), start=1)}
        self._texts = {number: avro_files.latest(event.__name__) for event, number in self._ids.items()}

    def id_of(self, event: type) -> int:
        return self._ids[event]

    def schema_of(self, schema_id: int) -> str:
        if schema_id not in self._texts:
            raise DecodeError(f"schema id {schema_id} is not known")
        return self._texts[schema_id]
