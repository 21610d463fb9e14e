"""A log as a site with many gates would write it, made by the real codecs: assessments, results, alerts, releases.

Deterministic by its seed. Each partition's sources grow as the processors' own do, so readers drop repeats as they would live.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from processors.emit import key_of
from schemas import ids
from schemas.catalogue import TOPIC_OF
from schemas.codec import Schemas, encode
from schemas.envelope import envelope_of, to_headers
from schemas.events import (
    AlertCleared,
    AlertRaised,
    FrameAccepted,
    FrameRejected,
    ReleasePromoted,
    ReleaseRegistered,
    ResultCorrected,
    ResultDerived,
)
from schemas.types import BlobRef, Conclusion, DeviceId, EventId, FrameRef, Reading, ReleaseStep, SourcePosition
from streams.names import Namespace
from streams.partitioning import partition_of
from streams.records import Record

PIPELINE = "gate_reader"
STARTS_US = 1_790_000_000_000_000
PASSAGE = 12
_STEPS = tuple(
    ReleaseStep(step=step, model=model, version=version, digest=f"{version:064x}")
    for step, model, version in (
        ("detection", "detection", 3),
        ("recognizer", "recognizer", 1),
        ("postprocess", "postprocess", 1),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One event as it is to be written, and when the broker is to have taken it."""

    event: Any
    writer: str
    partition: int
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the log is of.

    Args:
        frames: Frames sent in all; each leaves two events or three.
        every_us: Time between one frame and the next, over all devices.
        starts_us: When the first frame is sent.
    """

    frames: int
    devices: int = 50
    partitions: int = 4
    every_us: int = 5_000_000
    starts_us: int = STARTS_US
    seed: int = 7

    def names(self) -> list[str]:
        return [f"gate-{n}" for n in range(self.devices)]


def releases() -> Iterator[Written]:
    """Two releases, one promoted after the other."""
    for number, release in enumerate(("gate_reader_r1", "gate_reader_r2")):
        for step, cls in enumerate((ReleaseRegistered, ReleasePromoted)):
            source = SourcePosition(topic="vision.commands", partition=0, offset=2 * number + step, index=0)
            common: dict[str, Any] = {
                "source": source,
                "pipeline": PIPELINE,
                "release": release,
                "issued_by": "made",
                "reason": "",
            }
            event_id, at_us = ids.event_id(source, cls.__name__), STARTS_US + number
            if cls is ReleaseRegistered:
                event: Any = ReleaseRegistered(
                    event_id=event_id, steps=_STEPS, parameters={"text_threshold": 0.5}, registered_at_us=at_us, **common
                )
            else:
                event = ReleasePromoted(event_id=event_id, previous_release=None, promoted_at_us=at_us, **common)
            yield Written(event=event, writer="hindsight/release", partition=0, at_us=at_us)


def chain(site: Site, only: Iterable[int] | None = None) -> Iterator[Written]:
    """Assessments, results and alerts, in the order in which they are written.

    Args:
        only: The partitions to give, so that several processes can share the work.
    """
    choice = random.Random(site.seed)
    values = [random.Random(site.seed + 1 + p) for p in range(site.partitions)]
    mine = set(only if only is not None else range(site.partitions))
    devices = [(name, partition_of(name.encode(), site.partitions)) for name in site.names()]
    sequences = [0] * site.devices
    offsets = [0] * site.partitions
    for number in range(site.frames):
        which = choice.randrange(site.devices)
        name, partition = devices[which]
        if partition not in mine:
            continue
        rng = values[partition]
        at_us = site.starts_us + 1_000_000 + number * site.every_us
        frame = _frame(name, sequences[which], at_us - 300_000, number)
        sequences[which] += 1
        source = SourcePosition(topic="vision.frames", partition=partition, offset=offsets[partition], index=0)
        offsets[partition] += 1
        if rng.random() < 0.03:
            yield Written(event=_rejected(frame, source, at_us), writer="hindsight/assess", partition=partition, at_us=at_us)
            continue
        yield Written(event=_accepted(frame, source, at_us, rng), writer="hindsight/assess", partition=partition, at_us=at_us)
        for event in _results(frame, source, at_us + 200_000, rng):
            yield Written(event=event, writer="hindsight/derive", partition=partition, at_us=at_us + 200_000)


def write(
    bootstrap_servers: str, namespace: Namespace, schemas: Schemas, written: Iterable[Written], *, wait_each: int = 0
) -> int:
    """Write events as their processors do; gives their number.

    Args:
        wait_each: Wait for the broker after so many, so that their times differ; 0 never waits.
    """
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4"}
    )
    number = 0
    for number, one in enumerate(written, start=1):
        while True:
            try:
                producer.produce(
                    namespace.topic(TOPIC_OF[type(one.event)]),
                    key=key_of(one.event).encode(),
                    value=encode(one.event, schemas),
                    headers=list(headers(one)),
                    partition=one.partition,
                    timestamp=one.at_us // 1000,
                )
                break
            except BufferError:
                producer.poll(0.05)
        if wait_each and number % wait_each == 0:
            producer.flush()
        elif number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0, "the broker did not take everything"
    return number


def headers(one: Written) -> tuple[tuple[str, bytes], ...]:
    envelope = envelope_of(
        one.event, source=one.writer, time_us=one.at_us, correlation_id=one.event.event_id, causation_id=one.event.event_id
    )
    return to_headers(envelope)


def record_of(one: Written, offset: int, schemas: Schemas) -> Record:
    """The event as a record that no broker holds."""
    return Record(
        topic=TOPIC_OF[type(one.event)],
        partition=one.partition,
        offset=offset,
        appended_at_ms=one.at_us // 1000,
        key=key_of(one.event).encode(),
        value=encode(one.event, schemas),
        headers=headers(one),
    )


def _frame(device: str, sequence: int, captured_at_us: int, number: int) -> FrameRef:
    return FrameRef(
        frame_id=ids.frame_id(device, "s", sequence),
        device_id=DeviceId(device),
        session_id="s",
        sequence=sequence,
        captured_at_us=captured_at_us,
        blob=BlobRef(sha256=f"{number:064x}", size_bytes=81_234, media_type="image/jpeg"),
        passage_id=f"{device}-{sequence // PASSAGE}",
        labels={"site": "north"},
    )


def _accepted(frame: FrameRef, source: SourcePosition, at_us: int, rng: random.Random) -> FrameAccepted:
    return FrameAccepted(
        event_id=ids.event_id(source, "FrameAccepted"),
        source=source,
        frame=frame,
        width_px=1280,
        height_px=720,
        measures={"sharpness": rng.random() * 100, "brightness_mean": rng.random() * 255},
        warnings=(),
        missing_before=0,
        assessed_at_us=at_us,
    )


def _rejected(frame: FrameRef, source: SourcePosition, at_us: int) -> FrameRejected:
    return FrameRejected(
        event_id=ids.event_id(source, "FrameRejected"),
        source=source,
        frame=frame,
        blob_stored=True,
        reasons=("not_an_image",),
        detail="the bytes are no image",
        assessed_at_us=at_us,
    )


def _results(frame: FrameRef, cause: SourcePosition, at_us: int, rng: random.Random) -> Iterator[Any]:
    source = SourcePosition(topic="vision.inferences", partition=cause.partition, offset=cause.offset, index=0)
    label = f"CSQU{rng.randrange(10**7):07d}"
    conclusion = _conclusion(frame, label)
    yield ResultDerived(
        event_id=ids.event_id(source, "ResultDerived"),
        source=source,
        frame=frame,
        inference_id=EventId(f"inference-{cause.partition}-{cause.offset}"),
        pipeline=PIPELINE,
        release="gate_reader_r1",
        outcome="read",
        readings=tuple(_reading(label, n, rng) for n in range(2)),
        conclusion=conclusion,
        rules="container_codes@1",
        detail="",
        derived_at_us=at_us,
    )
    if frame.sequence % PASSAGE == 5:
        other = SourcePosition(topic=source.topic, partition=source.partition, offset=source.offset, index=1)
        yield ResultCorrected(
            event_id=ids.event_id(other, "ResultCorrected"),
            source=other,
            device_id=frame.device_id,
            pipeline=PIPELINE,
            frame_id=frame.frame_id,
            previous=conclusion,
            conclusion=_conclusion(frame, f"{label}X"),
            rules="container_codes@1",
            derived_at_us=at_us,
        )
    if frame.sequence % (4 * PASSAGE) in (7, 20):
        yield _alert(frame, source, at_us, cleared=frame.sequence % (4 * PASSAGE) == 20)


def _alert(frame: FrameRef, source: SourcePosition, at_us: int, *, cleared: bool) -> Any:
    number = frame.sequence // (4 * PASSAGE)
    common: dict[str, Any] = {
        "source": SourcePosition(topic=source.topic, partition=source.partition, offset=source.offset, index=2),
        "alert_id": ids.named_id("made", frame.device_id, str(number)),
        "subject": frame.device_id,
        "kind": "unreadable_container",
    }
    if cleared:
        return AlertCleared(event_id=ids.event_id(common["source"], "AlertCleared"), reason="read", cleared_at_us=at_us, **common)
    return AlertRaised(
        event_id=ids.event_id(common["source"], "AlertRaised"),
        severity="warning",
        message="three frames without a code",
        frame_id=frame.frame_id,
        passage_id=frame.passage_id,
        evidence={},
        raised_at_us=at_us,
        **common,
    )


def _conclusion(frame: FrameRef, label: str) -> Conclusion:
    assert frame.passage_id is not None, "made frames are of a passage"
    return Conclusion(
        passage_id=frame.passage_id,
        frames_count=frame.sequence % PASSAGE + 1,
        kind="container_code",
        label=label,
        valid=True,
        confidence=0.93,
        votes_for=1,
        votes_total=1,
    )


def _reading(label: str, number: int, rng: random.Random) -> Reading:
    x, y = rng.randrange(1000), rng.randrange(600)
    return Reading(
        kind="container_code" if number == 0 else "text",
        label=label if number == 0 else "22G1",
        confidence=rng.random(),
        valid=True if number == 0 else None,
        observation_index=number,
        polygon_px=(x, y, x + 120.0, y, x + 120.0, y + 24.0, x, y + 24.0),
    )
