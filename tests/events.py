"""Strategies for events, made from the annotations of their classes: every field, nothing assumed beyond its type."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from schemas.catalogue import EVENT_BY_NAME, TOPICS

_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_SCALARS: Mapping[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    int: st.integers(-(2**31), 2**31 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    NoneType: st.none(),
}


@cache
def any_of(cls: type) -> st.SearchStrategy[Any]:
    """Events of one class."""
    hints = get_type_hints(cls)
    parts = {f.name: _of(hints[f.name], f.name) for f in fields(cls)}
    return st.fixed_dictionaries(parts).map(lambda kw: cls(**kw))


def any_event() -> st.SearchStrategy[Any]:
    """Events of every class in the catalogue."""
    return st.one_of([any_of(event) for event in EVENT_BY_NAME.values()])


def any_of_topic(topic: str) -> st.SearchStrategy[Any]:
    return st.one_of([any_of(event) for event in TOPICS[topic].events])


def _of(tp: Any, name: str) -> st.SearchStrategy[Any]:
    if isinstance(tp, NewType):
        tp = tp.__supertype__
    if name.endswith("_us") and tp is int:
        return st.integers(0, 2**52)
    if tp in _SCALARS:
        return _SCALARS[tp]
    origin, args = get_origin(tp), get_args(tp)
    if origin in (Union, UnionType):
        return st.one_of([_of(arg, "") for arg in args])
    if origin is tuple:
        return st.lists(_of(args[0], ""), max_size=3).map(tuple)
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(_of(args[0], ""), _of(args[1], ""), max_size=3)
    return any_of(tp)
