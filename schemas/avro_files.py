"""The `.avsc` files in this package: every version of every event's schema, as text.

A published version is never edited; a change is a new file `v<N>.avsc`. `processors` never see these; `codec` does.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def versions(event_name: str) -> tuple[int, ...]:
    """Versions of an event's schema in this package, oldest first."""
    folder = files("schemas") / "avro" / event_name
    return tuple(sorted(int(f.name[1:-5]) for f in folder.iterdir() if f.name.endswith(".avsc")))


@cache
def schema_text(event_name: str, version: int) -> str:
    """The schema's JSON text as it stands in the file."""
    return (files("schemas") / "avro" / event_name / f"v{version}.avsc").read_text(encoding="utf-8")


def latest(event_name: str) -> str:
    return schema_text(event_name, versions(event_name)[-1])


def without_logical_types(schema: Any) -> Any:
    """The same schema read as plain longs and strings, so that bytes decode to ints and text without conversions."""
    match schema:
        case dict():
            plain = {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
            return plain["type"] if plain.keys() == {"type"} else plain
        case list():
            return [without_logical_types(part) for part in schema]
        case _:
            return schema


def full_name(text: str) -> str:
    """Namespace and name of a record schema, such as hindsight.frames.FrameCaptured."""
    schema = json.loads(text)
    return f"{schema['namespace']}.{schema['name']}"
