"""What changed of a key between two moments, field by field, with the events in between that changed it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.lookback.at import EventNear, event_near
from processors.lookback.known import FromSnapshot, ReadUpTo, known_at
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
    """What changed of one key of one view. `events_count` events of the key were counted in between."""

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
    place = known_at(log, schemas, view, key, to_us, snapshots=snapshots).read_up_to.partition
    known = known_at(log, schemas, view, key, from_us, snapshots=snapshots, partition=place)
    stop = log.offset_at(view.topic, place, to_us // 1000 + 1)
    reader, state = Reader(view, schemas, known.seen), known.state
    before = now = flat(to_plain(state))
    counted, by = 0, _By()
    for record in log.read(view.topic, place, known.read_up_to.offset, stop):
        if view.by_record_key and record.key != key.encode():
            continue
        if (found := reader.read(record)) is None or found[0] != key:
            continue
        state, counted = view.fold(state, found[1]), counted + 1
        earlier, now = now, flat(to_plain(state))
        near = None
        for name in _different(earlier, now):
            near = near or event_near(record, schemas)
            by.add(name, near)
    return Difference(
        view=view.name,
        key=key,
        from_us=from_us,
        to_us=to_us,
        changed=tuple(
            Changed(field=name, before=before.get(name), after=now.get(name), by_count=by.count(name), by=by.events(name))
            for name in sorted(_different(before, now))
        ),
        events_count=counted,
        read_up_to=(known.read_up_to, ReadUpTo(topic=view.topic, partition=place, offset=stop)),
        snapshot=known.snapshot,
        notes=known.notes,
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


class _By:
    """Which events changed a field: how many, and the last ones."""

    def __init__(self) -> None:
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
