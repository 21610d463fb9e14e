"""A device's state as known at a moment, or as true then by what is known now: its views, and the events around the moment."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from processors.lookback.known import FromSnapshot, Known, ReadUpTo, known_at
from processors.lookback.true import Late, TrueState, true_at
from processors.release.core import PipelineReleases
from processors.snapshots.reading import Snapshots
from processors.views.catalogue import VIEWS, View
from processors.views.features import DeviceFeatures
from processors.views.folds import DeviceFrames, DeviceResults, OpenAlerts
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, MONITORING, RELEASES, RESULTS
from schemas.codec import Schemas, decode
from schemas.envelope import header, rfc3339
from schemas.errors import ContractError
from streams.partitioning import partition_of
from streams.past import Scope
from streams.ports import EventLog
from streams.records import Record

S = TypeVar("S")

_DEVICE_TOPICS = (FRAMES, ASSESSMENTS, INFERENCES, RESULTS, MONITORING)
_AROUND_MOST = 40
AS_KNOWN = "as known at"
AS_TRUE = "as true at, by what is known now"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNear:
    """One event near the moment."""

    appended_at_us: int
    topic: str
    partition: int
    offset: int
    type: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAt:
    """What was known of a device at a moment, or what was true then; a part is its view's initial state when there was nothing.

    `answers` says which of the two it is. `late` lists what a true answer counts and was not known yet.
    """

    device_id: str
    at_us: int
    answers: str = AS_KNOWN
    pipeline: str
    frames: DeviceFrames
    results: DeviceResults
    features: DeviceFeatures
    alerts: OpenAlerts
    releases: PipelineReleases
    read_up_to: tuple[ReadUpTo, ...]
    around: tuple[EventNear, ...]
    late: tuple[Late, ...] = ()
    late_count: int = 0
    snapshots: tuple[FromSnapshot, ...] = ()
    notes: tuple[str, ...] = ()


def device_at(
    log: EventLog,
    schemas: Schemas,
    *,
    device_id: str,
    pipeline: str,
    at_us: int,
    around_s: float = 10.0,
    snapshots: Snapshots | None = None,
    as_true: bool = False,
    scope: Scope | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> DeviceAt:
    """The device's state as the system knew it at `at_us` (microseconds since the epoch), the moment included.

    Args:
        snapshots: Where folds may begin; without them they begin at the start of the log.
        as_true: Ask for what was true then, by what is known now.
        scope: Where the log is that of a bundle: what it holds all of.
        progress: Told how far a true answer has read.
    Raises:
        ContractError: the log and the snapshots do not reach back to the moment.
        LogUnavailableError: the log does not answer.
    """
    found: list[Known[Any] | TrueState[Any]] = []
    for view, key in (
        (VIEWS["device_frames"], device_id),
        (VIEWS["device_results"], device_id),
        (VIEWS["device_features"], device_id),
        (VIEWS["alerts"], device_id),
        (VIEWS["releases"], pipeline),
    ):
        if as_true:
            found.append(true_at(log, schemas, view, key, at_us, snapshots=snapshots, progress=progress))
        else:
            found.append(known_at(log, schemas, view, key, at_us, snapshots=snapshots))
    frames, results, features, alerts, releases = (one.state for one in found)
    # Two views of one topic count the same late events.
    of_topics = {one.read_up_to.topic: one for one in found}.values()
    late = [one for each in of_topics for one in getattr(each, "late", ())]
    notes: list[str] = []
    around = tuple(_around(log, schemas, device_id, pipeline, at_us, round(around_s * 1000), notes))
    if scope is not None:
        notes = _of_a_bundle(scope, at_us, round(around_s * 1e6), as_true=as_true)
    return DeviceAt(
        device_id=device_id,
        at_us=at_us,
        answers=AS_TRUE if as_true else AS_KNOWN,
        pipeline=pipeline,
        frames=frames,
        results=results,
        features=features,
        alerts=alerts,
        releases=releases,
        read_up_to=tuple(sorted({one.read_up_to for one in found}, key=lambda r: (r.topic, r.partition))),
        around=around,
        late=tuple(sorted(late, key=lambda one: (one.happened_at_us, one.topic, one.offset))),
        late_count=sum(getattr(each, "late_count", 0) for each in of_topics),
        snapshots=tuple(one.snapshot for one in found if one.snapshot is not None),
        notes=(*(note for one in found for note in one.notes), *notes),
    )


def view_at(
    log: EventLog, schemas: Schemas, view: View[S], key: str, at_us: int, *, snapshots: Snapshots | None = None
) -> tuple[S, ReadUpTo]:
    """One key of one view over the prefix that the broker held at a moment, to its millisecond.

    Raises:
        ContractError: the log and the snapshots do not reach back to the moment.
    """
    known = known_at(log, schemas, view, key, at_us, snapshots=snapshots)
    return known.state, known.read_up_to


def _of_a_bundle(scope: Scope, at_us: int, around_us: int, *, as_true: bool) -> list[str]:
    """What is to be said of answers from a bundle; where its partitions begin says nothing more."""
    notes = []
    if not scope.from_us <= at_us - around_us <= at_us + around_us <= scope.to_us:
        notes.append("events around the moment are shown as far as the bundle's window goes")
    if as_true:
        notes.append(f"known now is what was known at the bundle's end, {rfc3339(scope.to_us)}")
    return notes


def _around(
    log: EventLog, schemas: Schemas, device_id: str, pipeline: str, at_us: int, around_ms: int, notes: list[str]
) -> list[EventNear]:
    near = [e for topic in _DEVICE_TOPICS for e in _near(log, schemas, topic, device_id, at_us, around_ms, notes)]
    near += _near(log, schemas, RELEASES, pipeline, at_us, around_ms, notes)
    nearest = sorted(near, key=lambda e: abs(e.appended_at_us - at_us))[:_AROUND_MOST]
    return sorted(nearest, key=lambda e: (e.appended_at_us, e.topic, e.offset))


def _near(
    log: EventLog, schemas: Schemas, topic: str, key: str, at_us: int, around_ms: int, notes: list[str]
) -> Iterator[EventNear]:
    every = log.partitions(topic)
    # Frames lie where whoever sent them put them; what follows from them lies by its key.
    for partition in every if topic == FRAMES else (partition_of(key.encode(), len(every)),):
        start = log.offset_at(topic, partition, at_us // 1000 - around_ms)
        stop = log.offset_at(topic, partition, at_us // 1000 + around_ms + 1)
        if start == log.bounds(topic, partition).earliest > 0:
            kept = _first(log, topic, partition)
            notes.append(f"events around the moment may be missing: {topic} {partition} is kept from {kept} on")
        for record in log.read(topic, partition, start, stop):
            if record.key == key.encode():
                yield event_near(record, schemas)


def _first(log: EventLog, topic: str, partition: int) -> str:
    earliest = log.bounds(topic, partition).earliest
    found = next(log.read(topic, partition, earliest, earliest + 1), None)
    return f"{earliest}" if found is None else f"{earliest} ({rfc3339(found.appended_at_ms * 1000)})"


def event_near(record: Record, schemas: Schemas) -> EventNear:
    """A record with one line about it."""
    try:
        event = decode(record.value, record.topic, schemas)
        name, summary = type(event).__name__, _summary(event)
    except ContractError as error:
        name, summary = header(record.headers, "ce_type").rpartition(".")[2], f"unreadable: {error}"
    return EventNear(
        appended_at_us=record.appended_at_ms * 1000,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        type=name,
        summary=summary,
    )


def _summary(event: Any) -> str:
    """One line about an event: the fields that tell one from another."""
    parts = []
    if hasattr(event, "frame"):
        parts.append(f"#{event.frame.sequence}")
    for name in ("release", "outcome", "reason", "detail", "failed_step", "message", "name", "value"):
        found = getattr(event, name, None)
        if found not in (None, ""):
            parts.append(f"{name}={found}" if name not in ("outcome", "message") else str(found))
    parts += getattr(event, "reasons", ())
    readings = getattr(event, "readings", ())
    if readings:
        parts.append(", ".join(r.label for r in readings))
    return " ".join(parts)
