"""JSON Schema of an event, made from its Avro schema with every field's description."""

import json
from functools import cache
from typing import Any

from schemas import avro_files

_SCALARS = {
    "null": "null",
    "boolean": "boolean",
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "string": "string",
}


@cache
def json_schema(event_name: str) -> str:
    """Text of the schema of an event's plain form, in JSON Schema draft 2020-12."""
    return json.dumps(schema_of(event_name))


def schema_of(event_name: str) -> dict[str, Any]:
    """The schema as plain dicts."""
    avro = json.loads(avro_files.latest(event_name))
    return {"title": f"{avro['namespace']}.{avro['name']}", **_of(avro, {})}


def _of(avro: Any, named: dict[str, Any]) -> dict[str, Any]:
    match avro:
        case str() if avro in _SCALARS:
            return {"type": _SCALARS[avro]}
        case str():
            return dict(named[avro])
        case list():
            return {"anyOf": [_of(part, named) for part in avro]}
        case {"type": "record"}:
            return _record(avro, named)
        case {"type": "array"}:
            return {"type": "array", "items": _of(avro["items"], named)}
        case {"type": "map"}:
            return {"type": "object", "additionalProperties": _of(avro["values"], named)}
        case _:
            return _of(avro["type"], named)


def _record(avro: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    properties = {}
    for field in avro["fields"]:
        described = {"description": field["doc"]} if "doc" in field else {}
        properties[field["name"]] = {**_of(field["type"], named), **described}
    out = {"type": "object", "properties": properties, "required": [field["name"] for field in avro["fields"]]}
    described = {"description": avro["doc"], **out} if "doc" in avro else out
    named[avro["name"]] = described
    named[f"{avro.get('namespace', '')}.{avro['name']}"] = described
    return described
