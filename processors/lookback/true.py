"""One key of one view as true at a moment, by what is known now: all events about the time up to it, in that time's order.

The moment is on the clock of what happened, and not on the broker's: a frame counts by when it was captured, an alert or a
release by its own time. Late arrivals count, and are listed; what was appended before the moment and is about a later one
does not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from processors.lookback.in_order import Item, in_order
from processors.lookback.known import FromSnapshot, ReadUpTo, used, wherever
from processors.repeats import Seen
from processors.snapshots.reading import Snapshots, Start
from processors.views.catalogue import View
from processors.views.replay import Reader
from schemas.codec import Schemas, decode
from schemas.envelope import rfc3339
from schemas.errors import ContractError
from streams.partitioning import partition_of
from streams.ports import EventLog
from streams.records import Record

S = TypeVar("S")
_LATE_LISTED = 200
_FRAMES_REMEMBERED = 10_000
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """An event about a time up to the moment that was appended after it."""

    topic: str
    partition: int
    offset: int
    type: str
    happened_at_us: int
    appended_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueState(Generic[S]):
    """A state as true at a moment, by what is known now. `late` lists the first ones of `late_count`."""

    state: S
    read_up_to: ReadUpTo
    late: tuple[Late, ...]
    late_count: int
    snapshot: FromSnapshot | None
    notes: tuple[str, ...]


def true_at(
    log: EventLog,
    schemas: Schemas,
    view: View[S],
    key: str,
    at_us: int,
    *,
    snapshots: Snapshots | None = None,
    partition: int | None = None,
    progress: Progress = lambda done, of: None,
) -> TrueState[S]:
    """One key of a view with everything that is known today about the time up to `at_us`.

    Args:
        snapshots: Needed only where the log has lost its start: then what they count is taken as it was known.
        progress: Told now and then how many records were read, and of how many.
    Raises:
        ContractError: neither log nor snapshots reach back.
        LogUnavailableError: no answer.
    """
    if partition is None and not view.by_record_key:
        return wherever(
            log,
            view,
            lambda p: true_at(log, schemas, view, key, at_us, snapshots=snapshots, partition=p, progress=progress),
        )
    place = partition if partition is not None else partition_of(key.encode(), len(log.partitions(view.topic)))
    bounds = log.bounds(view.topic, place)
    start = _start(log, view, place, key, at_us, snapshots)
    known_stop = log.offset_at(view.topic, place, at_us // 1000 + 1)
    reader = Reader(view, schemas, start.seen)
    finding = _Finding(view, key, at_us, known_stop)
    records = _told(log.read(view.topic, place, start.offset, bounds.end), start.offset, bounds.end, progress)
    state = start.state
    for _, _, value in in_order(finding.up_to(records, reader)):
        state = view.fold(state, decode(value, view.topic, schemas))
    notes = start.notes
    if start.manifest is not None:
        since = rfc3339(start.manifest.known_from_ms * 1000)
        notes = (*notes, f"{view.name}: what was appended up to {since} is no longer kept, and is counted as it was known then")
    return TrueState(
        state=state,
        read_up_to=ReadUpTo(topic=view.topic, partition=place, offset=bounds.end),
        late=tuple(finding.late),
        late_count=finding.late_count,
        snapshot=used(start.manifest),
        notes=notes,
    )


def happened_at_us(event: Any) -> int:
    """When what an event tells of happened: a frame's capture, the end of a window, or else the event's own time."""
    if hasattr(event, "frame"):
        return int(event.frame.captured_at_us)
    if hasattr(event, "window_to_us"):
        return int(event.window_to_us)
    name = next(f.name for f in fields(event) if f.name.endswith("_at_us"))
    return int(getattr(event, name))


class _Finding:
    """Goes through the records of a key and keeps what is about the time up to the moment."""

    def __init__(self, view: View[Any], key: str, at_us: int, known_stop: int) -> None:
        self._view, self._key, self._at_us, self._known_stop = view, key, at_us, known_stop
        self._captured: dict[str, int] = {}
        self.late: list[Late] = []
        self.late_count = 0

    def up_to(self, records: Iterator[Record], reader: Reader) -> Iterator[Item]:
        name = self._key.encode()
        for record in records:
            if self._view.by_record_key and record.key != name:
                continue
            found = reader.read(record)
            if found is None or found[0] != self._key:
                continue
            happened = self._happened(found[1])
            if happened > self._at_us:
                continue
            if record.offset >= self._known_stop:
                self._is_late(record, found[1], happened)
            yield happened, record.offset, record.value or b""

    def _happened(self, event: Any) -> int:
        """A correction names its frame only, whose result came just before it."""
        if hasattr(event, "frame"):
            self._captured[event.frame.frame_id] = event.frame.captured_at_us
            if len(self._captured) > _FRAMES_REMEMBERED:
                del self._captured[next(iter(self._captured))]
        elif type(event).__name__ == "ResultCorrected" and event.frame_id in self._captured:
            return self._captured[event.frame_id]
        return happened_at_us(event)

    def _is_late(self, record: Record, event: Any, happened: int) -> None:
        self.late_count += 1
        if len(self.late) < _LATE_LISTED:
            self.late.append(
                Late(
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    type=type(event).__name__,
                    happened_at_us=happened,
                    appended_at_us=record.appended_at_ms * 1000,
                )
            )


def _start(log: EventLog, view: View[Any], partition: int, key: str, at_us: int, snapshots: Snapshots | None) -> Start:
    """The start of the log, or the oldest snapshot that it still reaches back to."""
    bounds = log.bounds(view.topic, partition)
    if bounds.earliest == 0:
        return Start(offset=0, state=view.initial, seen=Seen(), manifest=None, notes=())
    notes: list[str] = []
    names = list(snapshots.names(view, partition, notes)) if snapshots is not None else []
    reaching = sorted((n for n in names if n.offset >= bounds.earliest), key=lambda n: n.offset)
    for one in reaching:
        assert snapshots is not None, "names come from it"
        if one.known_from_ms * 1000 > at_us:
            break
        found = snapshots.start(view, partition, key, one, notes)
        if found is not None:
            return found
    at_earliest = f"; the earliest moment is {rfc3339(reaching[0].known_from_ms * 1000)}" if reaching else ""
    raise ContractError(
        f"{rfc3339(at_us)} is out of reach for {view.name}: {view.topic} {partition} is kept from {bounds.earliest} on, and no "
        f"snapshot that it reaches back to is from before the moment{at_earliest}"
    )


def _told(records: Iterator[Record], start: int, end: int, progress: Progress) -> Iterator[Record]:
    for record in records:
        if record.offset % 20_000 == 0:
            progress(record.offset - start, end - start)
        yield record
