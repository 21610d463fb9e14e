"""Telling repeats from news. Every reader of a derived topic does this, live and in replays.

A processor that crashed emits again what it had emitted; sources only grow along a partition otherwise, so an event
whose source is not beyond the last one seen is a repeat. Events without a source are never repeats.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.types import SourcePosition

SOURCES_KEY = "@sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How far each causing partition has been seen, as `topic/partition` to (offset, index)."""

    sources: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def is_repeat(self, event: Any) -> bool:
        source = source_of(event)
        return source is not None and (source.offset, source.index) <= self.sources.get(_place(source), (-1, -1))

    def with_event(self, event: Any) -> "Seen":
        source = source_of(event)
        if source is None:
            return self
        return Seen(sources={**self.sources, _place(source): (source.offset, source.index)})


def source_of(event: Any) -> SourcePosition | None:
    """The record that caused an event; None for what came from outside."""
    return getattr(event, "source", None)


def _place(source: SourcePosition) -> str:
    return f"{source.topic}/{source.partition}"
