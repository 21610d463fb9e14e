"""The state as known at a moment: each view folded over the prefix of the log that the broker held then."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from processors.release.core import PipelineReleases
from processors.views.catalogue import VIEWS, View
from processors.views.folds import DeviceFrames, DeviceResults, OpenAlerts
from processors.views.replay import fold_records
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, MONITORING, RELEASES, RESULTS
from schemas.codec import Schemas, decode
from schemas.envelope import header
from schemas.errors import ContractError
from streams.partitioning import partition_of
from streams.ports import EventLog
from streams.records import Record

S = TypeVar("S")

_DEVICE_TOPICS = (FRAMES, ASSESSMENTS, INFERENCES, RESULTS, MONITORING)
_AROUND_MOST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadUpTo:
    """How far one partition was read for an answer: `offset` is the next one, not counted."""

    topic: str
    partition: int
    offset: int


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
    """What was known of a device at a moment; a part is its view's initial state when nothing was known."""

    device_id: str
    at_us: int
    pipeline: str
    frames: DeviceFrames
    results: DeviceResults
    alerts: OpenAlerts
    releases: PipelineReleases
    read_up_to: tuple[ReadUpTo, ...]
    around: tuple[EventNear, ...]


def device_at(log: EventLog, schemas: Schemas, *, device_id: str, pipeline: str, at_us: int, around_s: float = 10.0) -> DeviceAt:
    """The device's state as the system knew it at `at_us` (microseconds since the epoch), the moment included.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    reading: list[ReadUpTo] = []

    def state(view: str, key: str) -> Any:
        found, up_to = view_at(log, schemas, VIEWS[view], key, at_us)
        reading.append(up_to)
        return found

    return DeviceAt(
        device_id=device_id,
        at_us=at_us,
        pipeline=pipeline,
        frames=state("device_frames", device_id),
        results=state("device_results", device_id),
        alerts=state("alerts", device_id),
        releases=state("releases", pipeline),
        read_up_to=tuple(sorted(set(reading), key=lambda r: (r.topic, r.partition))),
        around=tuple(_around(log, schemas, device_id, pipeline, at_us, round(around_s * 1000))),
    )


def view_at(log: EventLog, schemas: Schemas, view: View[S], key: str, at_us: int) -> tuple[S, ReadUpTo]:
    """One key of one view over the prefix that the broker held at a moment, to its millisecond."""
    partition = partition_of(key.encode(), len(log.partitions(view.topic)))
    stop = log.offset_at(view.topic, partition, at_us // 1000 + 1)
    start = log.bounds(view.topic, partition).earliest
    mine = (r for r in log.read(view.topic, partition, start, stop) if r.key == key.encode())
    folded = fold_records(view, mine, schemas, position=stop, only_key=key)
    return folded.states.get(key, view.initial), ReadUpTo(topic=view.topic, partition=partition, offset=stop)


def _around(log: EventLog, schemas: Schemas, device_id: str, pipeline: str, at_us: int, around_ms: int) -> list[EventNear]:
    near = [e for topic in _DEVICE_TOPICS for e in _near(log, schemas, topic, device_id, at_us, around_ms)]
    near += _near(log, schemas, RELEASES, pipeline, at_us, around_ms)
    nearest = sorted(near, key=lambda e: abs(e.appended_at_us - at_us))[:_AROUND_MOST]
    return sorted(nearest, key=lambda e: (e.appended_at_us, e.topic, e.offset))


def _near(log: EventLog, schemas: Schemas, topic: str, key: str, at_us: int, around_ms: int) -> Iterator[EventNear]:
    every = log.partitions(topic)
    # Frames lie where whoever sent them put them; what follows from them lies by its key.
    for partition in every if topic == FRAMES else (partition_of(key.encode(), len(every)),):
        start = log.offset_at(topic, partition, at_us // 1000 - around_ms)
        stop = log.offset_at(topic, partition, at_us // 1000 + around_ms + 1)
        for record in log.read(topic, partition, start, stop):
            if record.key == key.encode():
                yield _event_near(record, schemas)


def _event_near(record: Record, schemas: Schemas) -> EventNear:
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
