"""Records that cannot be used are kept aside, untouched, and the frames behind them go on."""

import asyncio
import struct
from dataclasses import dataclass, replace

from confluent_kafka import Producer

from processors.release import core
from schemas.catalogue import ASSESSMENTS, COMMANDS, DEAD_LETTERS, FRAMES, RELEASES
from schemas.codec import decode, encode
from schemas.events import ChangeThreshold, FrameCaptured, FrameRejected
from schemas.ids import captured_id, named_id
from schemas.types import BlobRef, DeviceId, FrameId, FrameRef, SourcePosition
from streams.partitioning import partition_of
from streams.records import Outgoing, Record
from tests.e2e.deployment import ALL, PARTITIONS, Deployment, devices_on_every_partition, troubles
from tests.given import AT_US, cause
from topology import commands

DEVICES = devices_on_every_partition()
_READERS = {FRAMES: {"assess"}, ASSESSMENTS: {"infer", "device_frames", "frame_outcomes"}}


@dataclass(frozen=True)
class Poison:
    """One unusable record and the error class that is expected of it."""

    value: bytes | None
    error: str
    headers: tuple[tuple[str, bytes], ...] = (("ce_source", b"\xff\xfe"), ("traceparent", b"not a trace"))


def frame(device: str) -> FrameRef:
    return FrameRef(
        frame_id=FrameId(named_id("frame", device, "poison")),
        device_id=DeviceId(device),
        session_id="poison",
        sequence=0,
        captured_at_us=1,
        blob=BlobRef(sha256="0" * 64, size_bytes=1, media_type="image/jpeg"),
        labels={},
    )


def poisons(deployment: Deployment, topic: str) -> list[Poison]:
    """One of each kind, with whole events of both topics to spoil."""
    captured = encode(
        FrameCaptured(event_id=captured_id(FrameId("x")), frame=frame("gate-x"), received_at_us=1, channel="sdk"),
        deployment.schemas,
    )
    rejected = encode(
        FrameRejected(
            event_id=named_id("x"),
            source=SourcePosition(topic=FRAMES, partition=0, offset=0, index=0),
            frame=frame("gate-x"),
            blob_stored=True,
            reasons=("too_small",),
            detail="",
            assessed_at_us=1,
        ),
        deployment.schemas,
    )
    right, wrong = (captured, rejected) if topic == FRAMES else (rejected, captured)
    return [
        Poison(b"\x01" + right[1:], "DecodeError"),
        Poison(b"\x00\x7f\xff\xff\xff" + right[5:], "DecodeError"),
        Poison(right[:5] + b"\xff" * 40, "DecodeError"),
        Poison(right[:-3], "DecodeError"),
        Poison(right + b"\x00", "DecodeError"),
        Poison(wrong, "UnknownEventError"),
        Poison(b"", "DecodeError"),
        Poison(None, "DecodeError"),
    ]


async def append(deployment: Deployment, topic: str, device: str, found: list[Poison]) -> None:
    appender = deployment.appender()
    try:
        for one in found:
            await appender.append(Outgoing(topic=topic, key=device.encode(), value=one.value, headers=one.headers))
    finally:
        await asyncio.to_thread(appender.close)


def dead_letters(deployment: Deployment, start: int) -> list[Record]:
    end = deployment.log.bounds(DEAD_LETTERS, 0).end
    return list(deployment.log.read(DEAD_LETTERS, 0, start, end))


def told(record: Record, name: str) -> str:
    return dict(record.headers)[f"hindsight_dlq_{name}"].decode()


def test_poison_is_kept_aside_and_what_follows_goes_on(running: Deployment) -> None:
    """Each reader of an unusable record keeps it aside untouched, with what was wrong, and the frames behind it are read."""
    start = deployment_end = running.log.bounds(DEAD_LETTERS, 0).end
    by_topic = {topic: poisons(running, topic) for topic in (FRAMES, ASSESSMENTS)}
    for topic, found in by_topic.items():
        for device in DEVICES:
            asyncio.run(append(running, topic, device, found))
    running.publish(DEVICES, 2)
    running.drain()
    assert troubles(running) == []
    letters = dead_letters(running, start)
    assert deployment_end + len(letters) == running.log.bounds(DEAD_LETTERS, 0).end
    for topic, found in by_topic.items():
        for poison in found:
            mine = [r for r in letters if told(r, "topic") == topic and r.value == poison.value]
            assert {(told(r, "processor"), told(r, "error_class")) for r in mine} == {(p, poison.error) for p in _READERS[topic]}
            assert len(mine) == len(DEVICES) * len(_READERS[topic])
            assert all(r.headers[len(r.headers) - len(poison.headers) :] == poison.headers for r in mine)
            assert {told(r, "key") for r in mine} == set(DEVICES)
    assert len(letters) == len(DEVICES) * sum(len(found) * len(_READERS[topic]) for topic, found in by_topic.items())


def test_a_threshold_that_is_no_number_changes_nothing(running: Deployment) -> None:
    """As a command and as an event of its own, by whoever writes bytes: kept aside, and the thresholds and the history stand."""
    start, before = running.log.bounds(DEAD_LETTERS, 0).end, commands.releases_now(running.settings)
    command = ChangeThreshold(
        command_id=named_id("nan"),
        pipeline=running.settings.pipeline.name,
        name="text_confidence",
        value=0.123,
        issued_by="nobody",
        reason="",
        issued_at_us=AT_US,
    )
    (event,) = core.decide(before, command, cause())
    values = {COMMANDS: command, RELEASES: replace(event, source=replace(event.source, offset=1 << 40))}
    number, none = struct.pack("<d", 0.123), struct.pack("<d", float("nan"))
    for topic, one in values.items():
        spoilt = Poison(encode(one, running.schemas).replace(number, none), "DecodeError", headers=())
        asyncio.run(append(running, topic, command.pipeline, [spoilt]))
    running.publish(DEVICES, 1)
    running.drain()
    assert {(told(r, "topic"), told(r, "processor"), told(r, "error_class")) for r in dead_letters(running, start)} == {
        (COMMANDS, "release", "DecodeError"),
        (COMMANDS, "erase", "DecodeError"),
        (COMMANDS, "redrive", "DecodeError"),
        (RELEASES, "releases", "DecodeError"),
    }
    assert commands.releases_now(running.settings) == before
    assert troubles(running) == []
    history = running.hindsight("releases", "history")
    assert (history.returncode, "unreadable" in history.stdout) == (0, True), history.stderr


def test_records_that_are_right_by_their_schema_and_still_unusable_stop_nothing(deployment: Deployment) -> None:
    """A blob that no digest names is a rejected frame; a record longer than its topic takes, which only compression let
    through, is kept aside by its length and digest; labels as long as a record may be go all the way."""
    deployment.start_workers(ALL)
    deployment.put_in_force()
    start = deployment.log.bounds(DEAD_LETTERS, 0).end
    device = DEVICES[0]
    nameless = replace(
        frame(device), blob=BlobRef(sha256="../escape", size_bytes=1, media_type="image/jpeg"), captured_at_us=AT_US
    )
    wordy = replace(
        frame(device), frame_id=FrameId(named_id("frame", device, "wordy")), session_id="wordy", labels={"note": "x" * 900_000}
    )
    long = replace(wordy, session_id="long", labels={"note": "x" * 20_000_000})
    values = [encode(captured_of(ref), deployment.schemas) for ref in (nameless, wordy, long)]
    with_long_records(deployment, device, values)
    deployment.publish(DEVICES, 1)
    deployment.drain()
    assert {t for t in troubles(deployment) if "missing" not in t} == {
        f"frame {r.frame_id} is rejected" for r in (nameless, wordy)
    }
    rejections = [e for e in assessments(deployment, device) if isinstance(e, FrameRejected)]
    assert {(e.frame.session_id, e.reasons) for e in rejections} >= {("poison", ("blob_changed",)), ("wordy", ("blob_gone",))}
    kept = dead_letters(deployment, start)
    assert [(told(r, "error_class"), told(r, "left_out_value_bytes"), r.value) for r in kept] == [
        ("DecodeError", str(len(values[2])), None)
    ]


def assessments(deployment: Deployment, device: str) -> list[object]:
    """What assess said in the device's partition."""
    partition = partition_of(device.encode(), PARTITIONS)
    records = deployment.log.read(ASSESSMENTS, partition, 0, deployment.log.bounds(ASSESSMENTS, partition).end)
    return [decode(r.value, ASSESSMENTS, deployment.schemas) for r in records]


def captured_of(ref: FrameRef) -> FrameCaptured:
    return FrameCaptured(event_id=captured_id(ref.frame_id), frame=ref, received_at_us=AT_US, channel="sdk")


def with_long_records(deployment: Deployment, device: str, values: list[bytes]) -> None:
    """Produce as a program of somebody else's would that compresses."""
    bootstrap = deployment.stack.endpoints.kafka_bootstrap
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "gzip", "message.max.bytes": 64 << 20})
    partition = partition_of(device.encode(), PARTITIONS)
    for value in values:
        producer.produce(deployment.namespace.topic(FRAMES), key=device.encode(), value=value, partition=partition)
    assert producer.flush(60) == 0
