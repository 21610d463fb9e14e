"""One key of one view as known at a moment: the nearest snapshot, and the tail of the log after it.

The answer is the fold of everything that the broker held at the moment, or a refusal that names the earliest moment that can
be answered: never a part of it. What was used, and what was tried in vain, is in the answer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from processors.repeats import Seen
from processors.snapshots.manifest import Kept, Manifest
from processors.snapshots.reading import Snapshots, Start
from processors.views.catalogue import View
from processors.views.replay import Folded, fold_records
from schemas.codec import Schemas
from schemas.envelope import rfc3339
from schemas.errors import ContractError, DigestError
from streams.partitioning import partition_of
from streams.ports import EventLog
from streams.records import Bounds, Record

S = TypeVar("S")


class WithState(Protocol):
    """An answer about a key."""

    @property
    def state(self) -> Any: ...


Answer = TypeVar("Answer", bound=WithState)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadUpTo:
    """How far one partition was read for an answer: `offset` is the next one, not counted."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FromSnapshot:
    """A snapshot that an answer began from: the state before `offset`, as known at `known_from_us`."""

    view: str
    partition: int
    offset: int
    known_from_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known(Generic[S]):
    """A state as known at a moment, and how it was found."""

    state: S
    read_up_to: ReadUpTo
    seen: Seen
    snapshot: FromSnapshot | None
    notes: tuple[str, ...]


def known_at(
    log: EventLog,
    schemas: Schemas,
    view: View[S],
    key: str,
    at_us: int,
    *,
    snapshots: Snapshots | None = None,
    partition: int | None = None,
) -> Known[S]:
    """One key of a view as the broker's log said it at a moment, to its millisecond.

    Args:
        snapshots: Where a fold may begin; without them it begins at the start of the log.
        partition: Where the key lies; by its hash when None, and for a view by frame wherever it is found.
    Raises:
        ContractError: the log and the snapshots do not reach back to the moment.
        LogUnavailableError, BlobStoreUnavailableError: no answer.
    """
    if partition is None and not view.by_record_key:
        return wherever(log, view, lambda p: known_at(log, schemas, view, key, at_us, snapshots=snapshots, partition=p))
    place = partition if partition is not None else partition_of(key.encode(), len(log.partitions(view.topic)))
    bounds = log.bounds(view.topic, place)
    stop = log.offset_at(view.topic, place, at_us // 1000 + 1)
    notes: tuple[str, ...] = ()
    for start in _starts(snapshots, view, place, key, stop):
        notes = (*notes, *(n for n in start.notes if n not in notes))
        if not _reaches(start, bounds, stop, at_us // 1000):
            continue
        try:
            folded = _fold(log, schemas, view, key, place, start, bounds, stop)
        except DigestError as error:
            notes = (*notes, f"{error}; it is passed over")
            continue
        return Known(
            state=folded.states.get(key, view.initial),
            read_up_to=ReadUpTo(topic=view.topic, partition=place, offset=_reflected(start, bounds, stop)),
            seen=folded.seen,
            snapshot=used(start.manifest),
            notes=notes,
        )
    if snapshots is not None and snapshots.away is not None:
        raise snapshots.away
    raise _out_of_reach(log, view, place, bounds, at_us, snapshots, notes)


def used(manifest: Manifest | None) -> FromSnapshot | None:
    """The snapshot that an answer began from, by name."""
    if manifest is None:
        return None
    return FromSnapshot(
        view=manifest.view, partition=manifest.partition, offset=manifest.offset, known_from_us=manifest.known_from_ms * 1000
    )


def wherever(log: EventLog, view: View[Any], asked: Callable[[int], Answer]) -> Answer:
    """What is answered of the partition that has a state; of views whose records' keys do not tell which one that is."""
    found = None
    for place in log.partitions(view.topic):
        found = asked(place)
        if found.state != view.initial:
            break
    assert found is not None, "a topic has a partition"
    return found


def _starts(snapshots: Snapshots | None, view: View[Any], partition: int, key: str, stop: int) -> Iterator[Start]:
    if snapshots is None:
        return iter((Start(offset=0, state=view.initial, seen=Seen(), manifest=None, notes=()),))
    return snapshots.starts(view, partition, key, stop)


def _reaches(start: Start, bounds: Bounds, stop: int, at_ms: int) -> bool:
    """Whether every record from the start up to the moment is at hand.

    A stop at the earliest record that is kept may stand for any position before it: the broker cannot tell where the moment
    was. Then only a snapshot will do that was the whole truth at that very moment.
    """
    manifest = start.manifest
    if manifest is None:
        return bounds.earliest == 0
    if stop > bounds.earliest:
        return manifest.offset >= bounds.earliest
    return manifest.known_from_ms <= at_ms < manifest.known_until_ms


def _reflected(start: Start, bounds: Bounds, stop: int) -> int:
    """The position that an answer reflects: where the log no longer has the moment, that of the snapshot which has it."""
    return stop if start.manifest is None or stop > bounds.earliest else start.offset


def _fold(
    log: EventLog, schemas: Schemas, view: View[S], key: str, partition: int, start: Start, bounds: Bounds, stop: int
) -> Folded:
    first = max(bounds.earliest, start.offset - 1)
    mine = _mine(view, key, start, log.read(view.topic, partition, first, stop))
    onto = Folded(
        states={} if start.manifest is None else {key: start.state}, seen=start.seen, position=start.offset, unreadable=0
    )
    return fold_records(view, mine, schemas, position=stop, only_key=key, onto=onto)


def _mine(view: View[Any], key: str, start: Start, records: Iterator[Record]) -> Iterator[Record]:
    """The tail's records of the key, after the snapshot was held against the record before them."""
    name = key.encode()
    for record in records:
        if record.offset < start.offset:
            start.hold(record)
        elif not view.by_record_key or record.key == name:
            yield record


def _out_of_reach(
    log: EventLog,
    view: View[Any],
    partition: int,
    bounds: Bounds,
    at_us: int,
    snapshots: Snapshots | None,
    notes: tuple[str, ...],
) -> ContractError:
    """What to say when neither log nor snapshots reach back: the earliest moment that can be asked, and single ones before."""
    names = list(snapshots.names(view, partition, [])) if snapshots is not None else []
    because = "".join(f"; {note}" for note in notes)
    first = _first(log, view, partition, bounds)
    what = (
        f"{rfc3339(at_us)} is out of reach for {view.name}: {view.topic} {partition} is kept from {first} on, "
        f"and no snapshot reaches back{because}"
    )
    return ContractError(what, do=_earliest(names, bounds, at_us))


def _first(log: EventLog, view: View[Any], partition: int, bounds: Bounds) -> str:
    for record in log.read(view.topic, partition, bounds.earliest, bounds.earliest + 1):
        return f"{record.offset} ({rfc3339(record.appended_at_ms * 1000)})"
    return str(bounds.earliest)


def _earliest(names: list[Kept], bounds: Bounds, at_us: int) -> str:
    reached = [one.known_from_ms for one in names if one.offset >= bounds.earliest]
    single = [one.known_from_ms for one in names if one.offset < bounds.earliest and one.known_from_ms * 1000 <= at_us]
    said = []
    if reached:
        said.append(f"the earliest moment that can be answered is {rfc3339(min(reached) * 1000)}")
    if single:
        said.append(f"a snapshot from before that answers for {rfc3339(max(single) * 1000)} exactly")
    return "; ".join(said) or "nothing can be answered for this key until a snapshot is there"
