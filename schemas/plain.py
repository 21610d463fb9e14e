"""Dataclasses to plain dicts, lists and scalars and back, compiled once for each class from its annotations.

Used for Avro records, for view states in JSON, and for what commands print. Unknown keys, missing fields and scalars of
another type are errors; nothing is guessed, but that a whole number may stand where a float does. A float is finite, both
ways: JSON has no NaN and no infinity, so an event that held one could not stand in a view.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from schemas.errors import DecodeError

T = TypeVar("T")
Convert = Callable[[Any], Any]


def to_plain(value: Any) -> Any:
    """A dataclass as dicts, lists and scalars, fields in the order of their declaration.

    Raises:
        ValueError: a float is not finite.
    """
    return _writer(type(value))(value)  # type: ignore[arg-type]  # a class can be hashed


def from_plain(cls: type[T], plain: Any) -> T:
    """The dataclass back.

    Raises:
        DecodeError: a field is missing, unknown or of another shape.
    """
    try:
        made: T = _reader(cls)(plain)  # type: ignore[arg-type]  # a class can be hashed
        return made
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DecodeError(f"{cls.__name__} cannot be made from this record: {error!r}") from error


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes.

    Raises:
        ValueError: a float is not finite. A state made of events that `codec` gave holds none.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return _json_writer(type(value))(value).encode()
    return _json(value).encode()


@cache
def _writer(tp: Any) -> Convert:
    if is_dataclass(tp):
        return _record_writer(tp)
    match _shape(tp):
        case ("optional", inner):
            write = _writer(inner)
            return lambda v: None if v is None else write(v)
        case ("tuple", inner):
            write = _writer(inner)
            return lambda v: [write(x) for x in v]
        case ("map", inner):
            write = _writer(inner)
            return lambda v: {k: write(v[k]) for k in sorted(v)}
        case (_, scalar):
            return _finite if scalar is float else _as_it_is


def _record_writer(cls: Any) -> Convert:
    """One expression for the whole record, as `dataclasses` makes its methods: every event that is written comes through here."""
    hints = get_type_hints(cls)
    known: dict[str, Any] = {f"write_{f.name}": _writer(hints[f.name]) for f in fields(cls)}
    parts = [f"v.{f.name}" if known[f"write_{f.name}"] is _as_it_is else f"write_{f.name}(v.{f.name})" for f in fields(cls)]
    named = ",".join(f"{f.name!r}:{part}" for f, part in zip(fields(cls), parts, strict=True))
    exec(f"def write(v):\n    return {{{named}}}", known)
    write: Convert = known["write"]
    return write


def _as_it_is(v: Any) -> Any:
    return v


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@cache
def _json_writer(tp: Any) -> Callable[[Any], str]:
    """Writes what `_json(to_plain(value))` gives, at less than half the cost: views are stored this way with every batch."""
    if is_dataclass(tp):
        return _record_json_writer(tp)
    match _shape(tp):
        case ("optional", inner):
            write = _json_writer(inner)
            return lambda v: "null" if v is None else write(v)
        case ("tuple", inner):
            write = _json_writer(inner)
            return lambda v: f"[{','.join(map(write, v))}]"
        case ("map", inner):
            write = _json_writer(inner)
            return lambda v: f"{{{','.join([f'{json_text(k)}:{write(v[k])}' for k in sorted(v)])}}}"
        case (_, scalar):
            return _JSON_SCALARS.get(scalar, _json)


def _record_json_writer(cls: Any) -> Callable[[Any], str]:
    """One expression for the whole record, as `dataclasses` makes its methods: a call for each field would cost as much again."""
    hints = get_type_hints(cls)
    names = sorted(f.name for f in fields(cls))
    known: dict[str, Any] = {f"write_{name}": _json_writer(hints[name]) for name in names}
    parts = ",".join(f'"{name}":{{write_{name}(v.{name})}}' for name in names)
    exec(f"def write(v):\n    return f'{{{{{parts}}}}}'", known)
    write: Callable[[Any], str] = known["write"]
    return write


def _json_number(v: Any) -> str:
    if type(v) is float and isfinite(v):
        return float.__repr__(v)
    return int.__repr__(v) if type(v) is int else _json(v)


json_text: Callable[[str], str] = json.encoder.encode_basestring
"""Text as JSON has it, as in `canonical_json`."""
_JSON_SCALARS: Mapping[type, Callable[[Any], str]] = {
    str: json_text,
    int: int.__repr__,
    float: _json_number,
    bool: {True: "true", False: "false"}.__getitem__,
}


@cache
def _reader(tp: Any) -> Convert:
    if is_dataclass(tp):
        return _record_reader(tp)
    match _shape(tp):
        case ("optional", inner):
            read = _reader(inner)
            return lambda v: None if v is None else read(v)
        case ("tuple", inner):
            read = _reader(inner)
            return lambda v: tuple([read(x) for x in v])
        case ("map", inner):
            read = _reader(inner)
            return lambda v: {_text(k): read(x) for k, x in v.items()}
        case (_, scalar):
            return _SCALARS.get(scalar, lambda v: v)


def _text(v: Any) -> str:
    if type(v) is not str:
        raise TypeError(f"{v!r} is not text")
    return v


def _whole(v: Any) -> int:
    if type(v) is not int:
        raise TypeError(f"{v!r} is not a whole number")
    return v


def _number(v: Any) -> float:
    return _finite(v) if type(v) is float else float(_whole(v))


def _finite(v: float) -> float:
    if not math.isfinite(v):
        raise ValueError(f"{v} is not a finite number")
    return v


def _yes_or_no(v: Any) -> bool:
    if type(v) is not bool:
        raise TypeError(f"{v!r} is neither true nor false")
    return v


_SCALARS: Mapping[Any, Convert] = {str: _text, int: _whole, float: _number, bool: _yes_or_no}


def _record_reader(cls: Any) -> Convert:
    """One function for the whole record, as `dataclasses` makes its methods: every record that is read comes through here.

    It fills the slots itself, at half the cost of a frozen class's own `__init__`.
    """
    assert hasattr(cls, "__slots__"), f"{cls.__name__} is a dataclass without slots"
    hints = get_type_hints(cls)
    known: dict[str, Any] = {
        "cls": cls,
        "new": object.__new__,
        "names": frozenset(f.name for f in fields(cls)),
        "isfinite": isfinite,
    }
    lines = [
        "if not plain.keys() <= names:",
        "    raise TypeError(f'unknown fields {sorted(plain.keys() - names)}')",
        "made = new(cls)",
    ]
    for f in fields(cls):
        known |= {f"read_{f.name}": _reader(hints[f.name]), f"set_{f.name}": getattr(cls, f.name).__set__}
        kind, inner = _shape(hints[f.name])
        fast = _AS_IT_IS.get(inner) if kind == "scalar" else None
        read = f"v if {fast} else read_{f.name}(v)" if fast else f"read_{f.name}(v)"
        taken = [f"v = plain[{f.name!r}]", f"set_{f.name}(made, {read})"]
        default = f.default_factory if f.default_factory is not MISSING else (lambda value=f.default: value)
        if f.default is not MISSING or f.default_factory is not MISSING:
            known[f"default_{f.name}"] = default
            taken = [
                f"if {f.name!r} in plain:",
                *(f"    {line}" for line in taken),
                "else:",
                f"    set_{f.name}(made, default_{f.name}())",
            ]
        lines += taken
    lines += ["made.__post_init__()"] * hasattr(cls, "__post_init__") + ["return made"]
    exec("def read(plain):\n    " + "\n    ".join(lines), known)
    read_record: Convert = known["read"]
    return read_record


# Scalars that need no reading, by what is asked of a value `v`.
_AS_IT_IS: Mapping[Any, str] = {
    str: "type(v) is str",
    int: "type(v) is int",
    float: "type(v) is float and isfinite(v)",
    bool: "type(v) is bool",
}


def _shape(tp: Any) -> tuple[str, Any]:
    origin, args = get_origin(tp), get_args(tp)
    if origin in (Union, UnionType) and NoneType in args:
        (inner,) = (a for a in args if a is not NoneType)
        return ("optional", inner)
    if origin is tuple and args[1:] == (Ellipsis,):
        return ("tuple", args[0])
    if origin is not None and issubclass(origin, Mapping):
        return ("map", args[1])
    return ("scalar", tp.__supertype__ if isinstance(tp, NewType) else tp)
