"""The events of a partition: every record that decodes, with its event. What does not decode is passed over."""

from collections.abc import Callable, Iterator
from typing import Any

from schemas.codec import Schemas, decode
from schemas.errors import ContractError
from streams.ports import EventLog
from streams.records import Record


def events_of(
    log: EventLog,
    schemas: Schemas,
    topic: str,
    partition: int,
    *,
    start: int = 0,
    stop: int | None = None,
    key: bytes | None = None,
) -> Iterator[tuple[Record, Any]]:
    """Records in the log's order, with their events; others are passed over.

    Args:
        start: From this offset on, or from what is kept.
        stop: Up to this offset, which is not in; up to the end when None.
        key: Only records of this key; others are not decoded.
    Raises:
        LogUnavailableError: the log does not answer.
    """
    bounds = log.bounds(topic, partition)
    for record in log.read(topic, partition, max(start, bounds.earliest), bounds.end if stop is None else min(stop, bounds.end)):
        if key is not None and record.key != key:
            continue
        try:
            yield record, decode(record.value, topic, schemas)
        except ContractError:
            continue


def newest_first(
    read: Callable[[int, int], Iterator[Record]], lowest: int, stop: int, *, first: int, most: int, times: int = 2
) -> Iterator[Record]:
    """Records of one partition from before `stop` down to `lowest`, for whoever hopes not to need them all.

    Args:
        read: Gives the records of [start, stop) in the log's order.
        first: Offsets that are read at first; then `times` as many, and never more than `most`.
    """
    size = first
    while stop > lowest:
        start = max(lowest, stop - size)
        yield from reversed(list(read(start, stop)))
        stop, size = start, min(size * times, most)
