"""The events of a window in the order in which the broker took them, over all topics and partitions.

Guarantees: along a partition the order is the log's; across partitions it goes by append time, then causes before what
they cause, then partition. Memory holds one record of each partition and what the log's readers fetch ahead. Repeats are
marked by the rule that every reader goes by, and what cannot be decoded is kept with the reason: which of them a format
takes is its own business.
"""

import heapq
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from processors.export.window import CHAIN, OF_PIPELINES, Span, Window, spans
from processors.repeats import Seen, writer_of
from schemas.catalogue import COMMANDS, FRAMES
from schemas.codec import decode
from schemas.errors import ContractError
from streams.past import Past
from streams.records import Record

# A processor that crashed repeats what it had appended since its last commit: far less than this many records.
_LOOK_BACK_RECORDS = 500
_WITHOUT_SOURCE = frozenset({FRAMES, COMMANDS})
_Key = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One record with its event; `event` is None where `trouble` says why it cannot be decoded."""

    record: Record
    event: Any
    trouble: str = ""
    is_repeat: bool = False


def moments(past: Past, window: Window, topics: tuple[str, ...] = CHAIN) -> Generator[Moment, None, None]:
    """Every record of the window on these topics, oldest first.

    Raises:
        TransientError: the log or the registry does not answer.
    """
    with ExitStack() as opened:
        sides = [
            opened.enter_context(closing(_keyed(past, window, span, rank)))
            for rank, topic in enumerate(topics)
            for span in spans(past.log, window, (topic,))
        ]
        for _, moment in heapq.merge(*sides, key=itemgetter(0)):
            yield moment


def along(past: Past, window: Window, span: Span) -> Generator[Moment, None, None]:
    """The window's records of one partition, in their order."""
    keys = frozenset[bytes]() if span.topic in OF_PIPELINES else window.keys
    seen = _seen_before(past, span)
    for record in past.log.read(span.topic, span.partition, span.start, span.stop):
        if keys and record.key not in keys:
            continue
        moment = _decoded(past, record, seen)
        if moment.event is not None and not moment.is_repeat:
            seen = seen.with_event(moment.event, writer_of(record))
        yield moment


def _keyed(past: Past, window: Window, span: Span, rank: int) -> Generator[tuple[_Key, Moment], None, None]:
    with closing(along(past, window, span)) as found:
        for moment in found:
            yield (moment.record.appended_at_ms, rank, span.partition, moment.record.offset), moment


def _seen_before(past: Past, span: Span) -> Seen:
    """What a reader that comes to the span's start has seen, so that repeats of what lies before it are known for repeats."""
    seen = Seen()
    if span.topic in _WITHOUT_SOURCE or span.start >= span.stop:
        return seen
    first = max(past.log.bounds(span.topic, span.partition).earliest, span.start - _LOOK_BACK_RECORDS)
    for record in past.log.read(span.topic, span.partition, first, span.start):
        moment = _decoded(past, record, seen)
        if moment.event is not None:
            seen = seen.with_event(moment.event, writer_of(record))
    return seen


def _decoded(past: Past, record: Record, seen: Seen) -> Moment:
    try:
        event = decode(record.value, record.topic, past.schemas)
    except ContractError as error:
        return Moment(record=record, event=None, trouble=str(error))
    return Moment(record=record, event=event, is_repeat=seen.is_repeat(event, writer_of(record)))
