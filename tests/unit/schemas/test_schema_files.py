"""The `.avsc` files and the event types are the same thing, field by field, both ways."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

import pytest

import schemas
from schemas import avro_files, catalogue
from schemas.catalogue import EVENT_BY_NAME

_IDS = {"EventId", "FrameId"}
_AVRO = {str: {"string"}, int: {"int", "long"}, float: {"double"}, bool: {"boolean"}}
EVENTS = sorted(EVENT_BY_NAME)


def written(event: str) -> Any:
    return json.loads(avro_files.latest(event))


def differences(tp: Any, avro: Any, path: str, names: dict[str, Any]) -> Iterator[str]:
    """Where an annotation and an Avro type are not the same."""
    if isinstance(tp, NewType):
        if tp.__name__ in _IDS and avro != {"type": "string", "logicalType": "uuid"}:
            yield f"{path}: an id is a string with logical type uuid, and not {avro}"
        tp = tp.__supertype__
    if isinstance(avro, str) and avro in names:
        avro = names[avro]
    if isinstance(avro, dict) and "logicalType" in avro:
        avro = avro["type"]
    origin, args = get_origin(tp), get_args(tp)
    if is_dataclass(tp):
        yield from record_differences(tp, avro, path, names)
    elif origin in (Union, UnionType):
        (inner,) = (a for a in args if a is not NoneType)
        if not isinstance(avro, list) or avro[0] != "null" or len(avro) != 2:
            yield f"{path}: optional, and so a union of null first and one other, not {avro}"
        else:
            yield from differences(inner, avro[1], path, names)
    elif origin is tuple:
        yield from differences(args[0], avro["items"], f"{path}[]", names)
    elif origin is not None and issubclass(origin, Mapping):
        yield from differences(args[1], avro["values"], f"{path}{{}}", names)
    elif avro not in _AVRO[tp]:
        yield f"{path}: {tp.__name__} is not {avro}"


def record_differences(cls: Any, avro: Any, path: str, names: dict[str, Any]) -> Iterator[str]:
    names |= {f"{avro.get('namespace', 'hindsight.types')}.{avro['name']}": avro, avro["name"]: avro}
    if avro["name"] != cls.__name__:
        yield f"{path}: {avro['name']} is not {cls.__name__}"
    hints = get_type_hints(cls)
    names_here, names_there = [f.name for f in fields(cls)], [f["name"] for f in avro["fields"]]
    if names_here != names_there:
        yield f"{path}: fields {names_here} are not {names_there}"
        return
    for field, other in zip(fields(cls), avro["fields"], strict=True):
        where = f"{path}.{field.name}"
        ours = [_in_json(field.default)] if field.default is not MISSING else []
        if field.default_factory is not MISSING:
            ours = [field.default_factory()]
        if ours != [other[name] for name in ("default",) if name in other]:
            yield f"{where}: the default of one is not the default of the other"
        yield from differences(hints[field.name], other["type"], where, names)


def _in_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def every_field(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    match schema:
        case list():
            for branch in schema:
                yield from every_field(branch, path)
        case {"type": "record"}:
            yield f"{path}<{schema['name']}>", schema
            for field in schema["fields"]:
                yield f"{path}.{field['name']}", field
                yield from every_field(field["type"], f"{path}.{field['name']}")
        case dict():
            for part in ("type", "items", "values"):
                yield from every_field(schema.get(part), path)


@pytest.mark.parametrize("event", EVENTS)
def test_class_and_schema_are_the_same(event: str) -> None:
    """Names, order, types, optionality and ids agree, down to the last nested record."""
    assert list(differences(EVENT_BY_NAME[event], written(event), event, {})) == []


@pytest.mark.parametrize("event", EVENTS)
def test_each_field_and_record_says_what_it_is(event: str) -> None:
    """A doc stands on each, and ends as a sentence does."""
    silent = [path for path, part in every_field(written(event), event) if not part.get("doc", "").endswith(".")]
    assert silent == []


@pytest.mark.parametrize("event", EVENTS)
def test_times_and_ids_have_logical_types(event: str) -> None:
    """A moment is timestamp-micros, an id that we derive is a uuid, and durations are plain."""
    for path, part in every_field(written(event), event):
        name, kind = part["name"], part.get("type")
        if name.endswith("_at_us") or name in ("window_from_us", "window_to_us"):
            assert kind == {"type": "long", "logicalType": "timestamp-micros"}, path
        if name in ("event_id", "frame_id", "alert_id", "command_id", "inference_id"):
            plain = kind[1] if isinstance(kind, list) else kind
            assert plain == {"type": "string", "logicalType": "uuid"}, path


@pytest.mark.parametrize("event", EVENTS)
def test_the_schema_is_named_after_its_topic(event: str) -> None:
    """The record's full name is hindsight, the topic, the event."""
    assert avro_files.full_name(avro_files.latest(event)) == catalogue.full_name(EVENT_BY_NAME[event])


def test_files_and_catalogue_list_the_same_events() -> None:
    """No schema without a topic, no event without a schema, and versions counted from 1 without a hole."""
    folder = Path(schemas.__file__).parent / "avro"
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == EVENTS
    for event in EVENTS:
        assert avro_files.versions(event) == tuple(range(1, len(avro_files.versions(event)) + 1))


def test_a_difference_would_be_found() -> None:
    """Each planted difference is named with its field."""
    cls = EVENT_BY_NAME["FrameCaptured"]
    for change, told in (
        (lambda s: s["fields"].pop(), "fields"),
        (lambda s: s["fields"][2].update(type="string"), "FrameCaptured.received_at_us"),
        (lambda s: s["fields"][0].update(type="string"), "an id is a string"),
        (lambda s: s["fields"][1]["type"]["fields"][0].update(name="id"), "FrameCaptured.frame"),
        (lambda s: s["fields"][0].update(default="x"), "the default of one"),
    ):
        schema = written("FrameCaptured")
        change(schema)
        assert any(told in d for d in differences(cls, schema, "FrameCaptured", {}))
