"""A view from the log: the state of every key, or of one, after a prefix of a partition.

The one function behind rebuilding, checking and every question about the past. It writes nothing.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from processors.repeats import SOURCES_KEY, Seen, refuse_reserved, writer_of
from processors.views.catalogue import View
from schemas.codec import Schemas, decode
from schemas.errors import ContractError
from schemas.plain import canonical_json
from streams.ports import EventLog, Stored
from streams.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """States by key after a prefix; `position` is the next offset, `unreadable` counts records that did not decode."""

    states: Mapping[str, Any]
    seen: Seen
    position: int
    unreadable: int


def fold_records(
    view: View[Any],
    records: Iterable[Record],
    schemas: Schemas,
    *,
    position: int,
    only_key: str | None = None,
    onto: Folded | None = None,
) -> Folded:
    """Fold records of one partition, in their order, dropping repeats as the live view does.

    Args:
        position: The next offset after the last record, which the result reflects.
        only_key: Leave out what belongs to other keys.
        onto: What the records before these gave, when they are a tail.
    """
    states: dict[str, Any] = dict(onto.states) if onto is not None else {}
    unreadable = onto.unreadable if onto is not None else 0
    seen = onto.seen if onto is not None else Seen()
    for record in records:
        try:
            event = decode(record.value, view.topic, schemas)
            refuse_reserved(view.key(event))
        except ContractError:
            unreadable += 1
            continue
        if seen.is_repeat(event, writer_of(record)):
            continue
        seen = seen.with_event(event, writer_of(record))
        key = view.key(event)
        if key is not None and (only_key is None or key == only_key):
            states[key] = view.fold(states.get(key, view.initial), event)
    return Folded(states=states, seen=seen, position=position, unreadable=unreadable)


def fold_log(
    view: View[Any], log: EventLog, schemas: Schemas, partition: int, stop: int, *, only_key: str | None = None
) -> Folded:
    """The view's partition after every record before `stop`."""
    start = log.bounds(view.topic, partition).earliest
    return fold_records(view, log.read(view.topic, partition, start, stop), schemas, position=stop, only_key=only_key)


def as_stored(folded: Folded) -> Stored:
    """The bytes that the view store should hold."""
    states = {key: canonical_json(state) for key, state in folded.states.items()}
    return Stored(position=folded.position, states={**states, SOURCES_KEY: canonical_json(folded.seen)})


def digest(stored: Stored) -> str:
    """sha256 over position and every key and state, sorted: equal views have equal digests."""
    out = hashlib.sha256(str(stored.position).encode())
    for key in sorted(stored.states):
        for part in (key.encode(), stored.states[key]):
            out.update(len(part).to_bytes(8, "big") + part)
    return out.hexdigest()
