"""What changed of a key between two moments, field by field, with the events in between that changed it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.lookback.at import EventNear, event_near
from processors.lookback.known import FromSnapshot, Known, ReadUpTo, known_at
from processors.snapshots.reading import Snapshots
from processors.views.catalogue import View
from processors.views.replay import Reader
from schemas.codec import Schemas
from schemas.errors import ContractError
from schemas.plain import to_plain
from streams.ports import EventLog

_EVENTS_LISTED = 20
Flat = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One field with its values at the two moments; None where it was not there. `by` has the last ones of `by_count` events."""

    field: str
    before: Any
    after: Any
    by_count: int
    by: tuple[EventNear, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What changed of one key of one view. `events_count` events of the key were counted in between.

    Where the log has lost records in between, the two states are compared all the same, no events are listed, and a note
    says so.
    """

    view: str
    key: str
    from_us: int
    to_us: int
    changed: tuple[Changed, ...]
    events_count: int
    read_up_to: tuple[ReadUpTo, ...]
    snapshot: FromSnapshot | None
    notes: tuple[str, ...]


def difference(
    log: EventLog,
    schemas: Schemas,
    view: View[Any],
    key: str,
    from_us: int,
    to_us: int,
    *,
    snapshots: Snapshots | None = None,
) -> Difference:
    """What changed of a key between two moments, as known at each.

    Raises:
        ContractError: the second moment is before the first, or the first is out of reach.
        LogUnavailableError: the log does not answer.
    """
    if to_us < from_us:
        raise ContractError("the second moment is before the first", do="name the earlier moment first")
    # By the later moment it is known where the key lies.
    later = known_at(log, schemas, view, key, to_us, snapshots=snapshots)
    place = later.read_up_to.partition
    known = known_at(log, schemas, view, key, from_us, snapshots=snapshots, partition=place)
    start, stop = known.read_up_to.offset, later.read_up_to.offset
    notes = (*known.notes, *(note for note in later.notes if note not in known.notes))
    kept_from = log.bounds(view.topic, place).earliest
    if start < min(kept_from, stop):
        gone = f"{view.topic} {place} is kept from {kept_from} on: what changed {view.name} since {start} is not listed"
        by, notes = _By(), (*notes, gone)
    else:
        by = _events_between(log, schemas, view, key, known, stop)
    before, now = flat(to_plain(known.state)), flat(to_plain(later.state))
    return Difference(
        view=view.name,
        key=key,
        from_us=from_us,
        to_us=to_us,
        changed=tuple(
            Changed(field=name, before=before.get(name), after=now.get(name), by_count=by.count(name), by=by.events(name))
            for name in sorted(_different(before, now))
        ),
        events_count=by.events_count,
        read_up_to=(known.read_up_to, later.read_up_to),
        snapshot=known.snapshot,
        notes=notes,
    )


def flat(plain: Any, prefix: str = "") -> dict[str, Any]:
    """Fields by their path, such as `last_result.frame.sequence` or `last_result.readings.0.label`; empty parts by their own."""
    if isinstance(plain, Mapping) and plain:
        parts: Iterator[tuple[str, Any]] = iter(plain.items())
    elif isinstance(plain, list) and any(isinstance(one, (Mapping, list)) for one in plain):
        parts = ((str(number), one) for number, one in enumerate(plain))
    else:
        return {prefix: plain}
    out: dict[str, Any] = {}
    for name, part in parts:
        out |= flat(part, f"{prefix}.{name}" if prefix else name)
    return out


def _different(before: Flat, after: Flat) -> list[str]:
    names = [name for name, value in after.items() if name not in before or before[name] != value]
    return names + [name for name in before if name not in after]


def _events_between(log: EventLog, schemas: Schemas, view: View[Any], key: str, known: Known[Any], stop: int) -> "_By":
    """What each event of the key after a known state changed, up to a position."""
    reader, state, by = Reader(view, schemas, known.seen), known.state, _By()
    now = flat(to_plain(state))
    for record in log.read(view.topic, known.read_up_to.partition, known.read_up_to.offset, stop):
        if view.by_record_key and record.key != key.encode():
            continue
        if (found := reader.read(record)) is None or found[0] != key:
            continue
        state, by.events_count = view.fold(state, found[1]), by.events_count + 1
        earlier, now = now, flat(to_plain(state))
        near = None
        for name in _different(earlier, now):
            near = near or event_near(record, schemas)
            by.add(name, near)
    return by


class _By:
    """Which events changed a field: how many, and the last ones."""

    def __init__(self) -> None:
        self.events_count = 0
        self._events: dict[str, list[EventNear]] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, event: EventNear) -> None:
        kept = self._events.setdefault(name, [])
        kept.append(event)
        del kept[:-_EVENTS_LISTED]
        self._counts[name] = self._counts.get(name, 0) + 1

    def events(self, name: str) -> tuple[EventNear, ...]:
        return tuple(self._events.get(name, ()))

    def count(self, name: str) -> int:
        return self._counts.get(name, 0)
