"""Telling repeats from news. Every reader of a derived topic does this, live and in replays.

A processor that crashed emits again what it had emitted; sources only grow along a partition otherwise, so an event
whose source is not beyond the last one seen of the same writer is a repeat. Writers count apart: two processors that
read one topic and write to another (vision.monitoring) do not come along at the same pace. Events without a source
are never repeats. A record that was redriven from the dead letters is told by its redrive (`redriven`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from processors.aside import ASIDE_KEY
from processors.redriven import REDRIVER, redriven_of
from schemas.envelope import header
from schemas.errors import ContractError
from schemas.types import SourcePosition
from streams.records import Record

SOURCES_KEY = "@sources"
_RESERVED = (SOURCES_KEY, ASIDE_KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How far each causing partition has been seen by way of each writer, as `writer topic/partition` to (offset, index)."""

    sources: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def is_repeat(self, event: Any, writer: str = "") -> bool:
        """Whether this writer's events from the same source were seen up to this one, or further."""
        source = source_of(event)
        return source is not None and (source.offset, source.index) <= self.sources.get(_place(source, writer), (-1, -1))

    def with_event(self, event: Any, writer: str = "") -> "Seen":
        source = source_of(event)
        if source is None or self.is_repeat(event, writer):
            return self
        return Seen(sources={**self.sources, _place(source, writer): (source.offset, source.index)})


class Watch:
    """`Seen` for one reader that goes through many events: the same answers, without a copy for each event."""

    def __init__(self, seen: Seen = Seen()) -> None:
        self._sources = dict(seen.sources)
        self._places: dict[tuple[str, str, int], str] = {}

    def is_news(self, event: Any, writer: str) -> bool:
        """Whether the event was not seen before; from now on it was."""
        source = getattr(event, "source", None)
        if source is None:
            return True
        name = (writer, source.topic, source.partition)
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = _place(source, writer)
        at, last = (source.offset, source.index), self._sources.get(place)
        if last is not None and at <= last:
            return False
        # (-1, -1) is where a source that was never seen stands: an event from there or before changes nothing.
        if last is None and at <= (-1, -1):
            return False
        self._sources[place] = at
        return True

    @property
    def seen(self) -> Seen:
        """What was seen so far."""
        return Seen(sources=dict(self._sources))


def told_by(event: Any, record: Record, reader: str) -> tuple[Any, str] | None:
    """What a reader tells a record's repeats by, and by way of which writer; None for a copy that is not meant for it.

    Args:
        reader: The processor or view that asks.
    """
    redriven = redriven_of(record)
    if redriven is None:
        return event, writer_of(record)
    return (redriven, REDRIVER) if redriven.reader == reader else None


def source_of(event: Any) -> SourcePosition | None:
    """The record that caused an event; None for what came from outside."""
    return getattr(event, "source", None)


def writer_of(record: Record) -> str:
    """Which part of the system wrote a record, such as hindsight/derive: CloudEvents' own source."""
    return header(record.headers, "ce_source")


def refuse_reserved(key: str | None) -> None:
    """States by key lie beside the sources, under names that whoever sends chooses.

    Raises:
        ContractError: the key is one that what is no state is kept under.
    """
    if key in _RESERVED:
        raise ContractError(f"{key} is not a name that a device, a pipeline or a frame can have")


def _place(source: SourcePosition, writer: str) -> str:
    return f"{writer} {source.topic}/{source.partition}" if writer else f"{source.topic}/{source.partition}"
