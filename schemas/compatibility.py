"""Whether one schema can read what another wrote: Avro's resolution rules, with the field that breaks them named. Pure.

`hindsight schemas check` holds all versions in this package against one another, both ways (FULL_TRANSITIVE), so an
incompatible change is found before any registry sees it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.avro_files import schema_text, versions

_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
_NAMED = ("record", "enum", "fixed")
Names = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incompatibility:
    """Why `reader` cannot read what `writer` wrote; `path` is the field, such as FrameCaptured.frame.blob.sha256."""

    event: str
    writer: str
    reader: str
    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.event}: {self.reader} cannot read {self.writer}: {self.path}: {self.why}"


def full_transitive(event: str, texts: Mapping[str, str]) -> tuple[Incompatibility, ...]:
    """Every version against every other, both ways.

    Args:
        texts: JSON text of each version, by what to call it.
    """
    parsed = {name: json.loads(text) for name, text in texts.items()}
    return tuple(
        Incompatibility(event=event, writer=writer, reader=reader, path=path, why=why)
        for writer in parsed
        for reader in parsed
        if writer != reader
        for path, why in unreadable(parsed[reader], parsed[writer])
    )


def versions_in_package(event: str) -> dict[str, str]:
    """All versions of an event in this package, as `full_transitive` takes them."""
    return {f"v{version}": schema_text(event, version) for version in versions(event)}


def unreadable(reader: Any, writer: Any) -> Iterator[tuple[str, str]]:
    """Where a reader's schema cannot take what the writer's wrote, as (path, why); nothing when it can."""
    yield from _Resolution(_names(reader, ""), _names(writer, "")).between(reader, writer, str(_called(reader)))


class _Resolution:
    def __init__(self, reader_names: Names, writer_names: Names) -> None:
        self._reader_names = reader_names
        self._writer_names = writer_names
        self._under_way: set[tuple[str, str]] = set()

    def between(self, reader: Any, writer: Any, path: str) -> Iterator[tuple[str, str]]:
        reader, writer = _looked_up(reader, self._reader_names), _looked_up(writer, self._writer_names)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.between(reader, branch, path)
            return
        if isinstance(reader, list):
            if not any(self._can(branch, writer, path) for branch in reader):
                yield path, f"none of {_called(reader)} takes {_called(writer)}"
            return
        kind, wrote = _kind(reader), _kind(writer)
        if kind != wrote:
            if kind not in _PROMOTIONS.get(wrote, ()):
                yield path, f"was written as {_called(writer)}, and is read as {_called(reader)}"
            return
        match kind:
            case "record":
                yield from self._records(reader, writer, path)
            case "array":
                yield from self.between(reader["items"], writer["items"], f"{path}[]")
            case "map":
                yield from self.between(reader["values"], writer["values"], f"{path}{{}}")
            case "enum":
                unknown = sorted(set(writer["symbols"]) - set(reader["symbols"]))
                if unknown and "default" not in reader:
                    yield path, f"the symbols {', '.join(unknown)} are not known to the reader, which has no default"
            case "fixed" if reader["size"] != writer["size"]:
                yield path, f"was written with {writer['size']} bytes, and is read with {reader['size']}"

    def _records(self, reader: Any, writer: Any, path: str) -> Iterator[tuple[str, str]]:
        if _short(reader) != _short(writer):
            yield path, f"was written as {_called(writer)}, and is read as {_called(reader)}"
            return
        pair = (_short(reader), _short(writer))
        if pair in self._under_way:
            return
        self._under_way.add(pair)
        written = {f["name"]: f for f in writer["fields"]}
        for field in reader["fields"]:
            found = next((written[n] for n in (field["name"], *field.get("aliases", ())) if n in written), None)
            where = f"{path}.{field['name']}"
            if found is not None:
                yield from self.between(field["type"], found["type"], where)
            elif "default" not in field:
                yield where, "is not in what was written, and has no default"
        self._under_way.discard(pair)

    def _can(self, reader: Any, writer: Any, path: str) -> bool:
        return next(iter(self.between(reader, writer, path)), None) is None


def _names(schema: Any, namespace: str) -> dict[str, Any]:
    """Every named type that a schema defines, by full name and by short name."""
    out: dict[str, Any] = {}
    match schema:
        case list():
            for branch in schema:
                out |= _names(branch, namespace)
        case {"type": kind} if kind in _NAMED:
            inside = schema.get("namespace", namespace)
            full = schema["name"] if "." in schema["name"] else f"{inside}.{schema['name']}".lstrip(".")
            out |= {full: schema, _short(schema): schema}
            for field in schema.get("fields", ()):
                out |= _names(field["type"], inside)
        case dict():
            for part in ("type", "items", "values"):
                out |= _names(schema.get(part), namespace)
    return out


def _looked_up(schema: Any, names: Names) -> Any:
    if isinstance(schema, str):
        return names.get(schema, schema)
    if isinstance(schema, dict) and schema["type"] not in (*_NAMED, "array", "map"):
        return _looked_up(schema["type"], names)
    return schema


def _kind(schema: Any) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _short(schema: Any) -> str:
    return str(schema["name"]).rpartition(".")[2]


def _called(schema: Any) -> str:
    match schema:
        case list():
            return " or ".join(_called(branch) for branch in schema)
        case {"name": _}:
            return _short(schema)
        case {"items": items}:
            return f"array of {_called(items)}"
        case {"values": values}:
            return f"map of {_called(values)}"
        case _:
            return _kind(schema)
