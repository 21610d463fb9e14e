"""A view from the log: the state of every key, or of one, after a prefix of a partition.

The one function behind rebuilding, checking and every question about the past. It writes nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from processors.repeats import SOURCES_KEY, Seen, Watch, refuse_reserved, told_by
from processors.views.catalogue import View
from schemas.codec import Schemas, decode
from schemas.errors import ContractError
from schemas.plain import canonical_json, from_plain
from streams.ports import EventLog, Stored
from streams.records import Record

_HOT = 512


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
    reader = Reader(view, schemas, onto.seen if onto is not None else Seen(), onto.unreadable if onto is not None else 0)
    fold, initial, read = view.fold, view.initial, reader.read
    for record in records:
        if (found := read(record)) is None:
            continue
        key, event = found
        if key is not None and (only_key is None or key == only_key):
            states[key] = fold(states.get(key, initial), event)
    return Folded(states=states, seen=reader.seen, position=position, unreadable=reader.unreadable)


class Reader:
    """Goes through the records of a partition as every reader of it does: in order, dropping repeats and what does not decode."""

    def __init__(self, view: View[Any], schemas: Schemas, seen: Seen = Seen(), unreadable: int = 0) -> None:
        self._name, self._topic, self._key, self._schemas = view.name, view.topic, view.key, schemas
        self._watch = Watch(seen)
        self.unreadable = unreadable

    def read(self, record: Record) -> tuple[str | None, Any] | None:
        """Whose state the record's event belongs to, and the event; None for a repeat and for what is no event."""
        try:
            event = decode(record.value, self._topic, self._schemas)
            key = self._key(event)
            refuse_reserved(key)
        except ContractError:
            self.unreadable += 1
            return None
        told = told_by(event, record, self._name)
        return (key, event) if told is not None and self._watch.is_news(*told) else None

    @property
    def seen(self) -> Seen:
        """How far each source has been seen."""
        return self._watch.seen


def fold_log(
    view: View[Any], log: EventLog, schemas: Schemas, partition: int, stop: int, *, only_key: str | None = None
) -> Folded:
    """The view's partition after every record before `stop`."""
    start = log.bounds(view.topic, partition).earliest
    return fold_records(view, log.read(view.topic, partition, start, stop), schemas, position=stop, only_key=only_key)


def stored_log(
    view: View[Any], log: EventLog, schemas: Schemas, partition: int, stop: int, *, hot: int = _HOT, onto: Stored | None = None
) -> Stored:
    """The bytes that the view store should hold after every record before `stop`: `as_stored` of `fold_log`, in less memory.

    Args:
        hot: States that are kept as objects; of others the bytes are kept, which nothing needs to walk through.
        onto: What the records gave that the log no longer has.
    """
    start = log.bounds(view.topic, partition).earliest if onto is None else onto.position
    states: dict[str, Any] = {}
    cold: dict[str, bytes] = {} if onto is None else dict(onto.states)
    seen = cold.pop(SOURCES_KEY, None)
    reader = Reader(view, schemas, Seen() if seen is None else from_plain(Seen, json.loads(seen)))
    for record in log.read(view.topic, partition, start, stop):
        if (found := reader.read(record)) is None:
            continue
        key, event = found
        if key is None:
            continue
        state = states.pop(key, None)  # and in again at the end: the first ones are those not touched for longest
        if state is None:
            state = from_plain(view.state_type, json.loads(cold[key])) if key in cold else view.initial
        states[key] = view.fold(state, event)
        if len(states) > hot:
            for name in list(islice(states, (hot + 1) // 2)):
                cold[name] = canonical_json(states.pop(name))
    cold.update({key: canonical_json(state) for key, state in states.items()})
    return Stored(position=stop, states={**cold, SOURCES_KEY: canonical_json(reader.seen)})


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
