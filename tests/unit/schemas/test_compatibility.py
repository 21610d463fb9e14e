"""FULL_TRANSITIVE: what may change and what may not, with the field named."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from schemas import avro_files
from schemas.catalogue import EVENT_BY_NAME
from schemas.compatibility import full_transitive, versions_in_package


def changed(change: Callable[[Any], Any]) -> list[tuple[str, str, str]]:
    """FrameCaptured against itself with a change: (reader, path, why)."""
    old = avro_files.latest("FrameCaptured")
    schema = json.loads(old)
    change(schema)
    return [(i.reader, i.path, i.why) for i in full_transitive("FrameCaptured", {"old": old, "new": json.dumps(schema)})]


def field(schema: Any, *path: str) -> Any:
    for name in path:
        schema = schema["type"] if "fields" not in schema else schema
        schema = next(f for f in schema["fields"] if f["name"] == name)
    return schema


def test_all_versions_in_the_package_read_one_another() -> None:
    """The published schemas keep the promise."""
    for event in EVENT_BY_NAME:
        assert full_transitive(event, versions_in_package(event)) == ()


def test_a_field_renamed_is_named_on_both_sides() -> None:
    """Neither side finds its field in what the other wrote."""
    found = changed(lambda s: field(s, "frame", "blob", "sha256").update(name="digest"))
    assert ("new", "FrameCaptured.frame.blob.digest", "is not in what was written, and has no default") in found
    assert ("old", "FrameCaptured.frame.blob.sha256", "is not in what was written, and has no default") in found


def test_a_default_removed_with_a_new_field_is_named() -> None:
    """A new field needs a default; with one it is fine."""
    new = {"name": "zone", "type": "string", "doc": "."}
    assert changed(lambda s: s["fields"].append(new)) == [
        ("new", "FrameCaptured.zone", "is not in what was written, and has no default")
    ]
    assert changed(lambda s: s["fields"].append({**new, "default": ""})) == []


def test_a_field_without_default_removed_is_named() -> None:
    """The old readers still want it; one that has a default may go."""
    assert changed(lambda s: s["fields"].remove(field(s, "channel"))) == [
        ("old", "FrameCaptured.channel", "is not in what was written, and has no default")
    ]
    assert changed(lambda s: field(s, "frame")["type"]["fields"].remove(field(s, "frame", "passage_id"))) == []


@pytest.mark.parametrize(
    ("path", "new_type", "readers"),
    [
        (("channel",), "long", {"old", "new"}),
        (("frame", "sequence"), "int", {"new"}),
        (("frame", "sequence"), "double", {"old"}),
        (("channel",), "bytes", set()),
        (("channel",), ["null", "string"], {"old"}),
        (("frame", "passage_id"), "string", {"new"}),
        (("frame", "labels"), {"type": "map", "values": "long"}, {"old", "new"}),
        (("frame", "labels"), {"type": "array", "items": "string"}, {"old", "new"}),
        (("channel",), {"type": "enum", "name": "Channel", "symbols": ["grpc"]}, {"old", "new"}),
    ],
)
def test_a_type_changed_is_named_where_it_cannot_be_read(path: tuple[str, ...], new_type: Any, readers: set[str]) -> None:
    """Avro's promotions hold in one direction only, and FULL asks for both."""

    def change(schema: Any) -> None:
        field(schema, *path)["type"] = new_type

    found = changed(change)
    assert {reader for reader, _, _ in found} == readers
    assert all(where.startswith("FrameCaptured." + ".".join(path)) for _, where, _ in found)


def test_enums_fixed_and_names_follow_avros_rules() -> None:
    """Symbols need a default, sizes must agree, a record keeps its name, an alias finds a field."""

    def pair(old: Any, new: Any) -> list[str]:
        wrap = [{"type": "record", "name": "R", "fields": [{"name": "x", "type": t}]} for t in (old, new)]
        return [i.reader for i in full_transitive("R", {"old": json.dumps(wrap[0]), "new": json.dumps(wrap[1])})]

    enum = {"type": "enum", "name": "E", "symbols": ["A"]}
    assert pair(enum, {**enum, "symbols": ["A", "B"]}) == ["old"]
    assert pair({**enum, "default": "A"}, {**enum, "symbols": ["A", "B"]}) == []
    fixed = {"type": "fixed", "name": "F", "size": 4}
    assert pair(fixed, {**fixed, "size": 5}) == ["old", "new"] or pair(fixed, {**fixed, "size": 5}) == ["new", "old"]
    inner = {"type": "record", "name": "I", "fields": []}
    assert sorted(pair(inner, {**inner, "name": "J"})) == ["new", "old"]
    renamed = {"type": "record", "name": "R", "fields": [{"name": "y", "aliases": ["x"], "type": "int"}]}
    old = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}
    assert [i.reader for i in full_transitive("R", {"old": json.dumps(old), "new": json.dumps(renamed)})] == ["old"]


def test_a_record_that_holds_itself_ends() -> None:
    """A list of nodes is held against itself once."""
    node = {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}, {"name": "v", "type": "int"}]}
    other = json.loads(json.dumps(node).replace('"int"', '"string"'))
    assert full_transitive("N", {"a": json.dumps(node), "b": json.dumps(node)}) == ()
    assert full_transitive("N", {"a": json.dumps(node), "b": json.dumps(other)}) != ()
