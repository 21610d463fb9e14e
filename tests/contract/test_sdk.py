"""The Python SDK and the documented consumers, against real Kafka, registry and S3."""

import asyncio
import doctest
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas import ids
from schemas.catalogue import FRAMES, RESULTS
from schemas.codec import decode, encode
from schemas.envelope import envelope_of, header, to_headers
from schemas.errors import BlobStoreUnavailableError, ConfigurationError, ContractError, FrameRefusedError, LogUnavailableError
from schemas.events import ResultCorrected, ResultDerived
from schemas.types import BlobRef, Conclusion, DeviceId, EventId, FrameRef, SourcePosition
from streams.blobs import S3BlobStore
from streams.kafka_appender import KafkaAppender
from streams.kafka_log import KafkaEventLog
from streams.names import Namespace
from streams.partitioning import partition_of
from streams.publishing import FramePublisher
from streams.records import Outgoing, Position, Record, system_clock
from streams.registry import RegistrySchemas
from streams.sdk import FrameProducer, ReceivedResult, ResultConsumer
from streams.sdk import consumer as consumer_module
from streams.sdk import producer as producer_module
from streams.topics import Topics
from topology.stack.local import LocalStack

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs" / "how-to"
IDLE_S = 3.0


def png(shade: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes([0, shade, shade] * 2))) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class World:
    """The real servers, as one namespace sees them."""

    endpoints: Any
    namespace: Namespace
    appender: KafkaAppender
    log: KafkaEventLog
    schemas: RegistrySchemas
    blobs: S3BlobStore

    def connection(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.endpoints.kafka_bootstrap,
            "registry_url": self.endpoints.registry_url,
            "namespace": self.namespace.prefix,
        }

    def producer_connection(self) -> dict[str, Any]:
        e = self.endpoints
        s3 = {"s3_endpoint": e.s3_endpoint, "s3_access_key": e.s3_access_key, "s3_secret_key": e.s3_secret_key}
        return {**self.connection(), **s3}

    def environment(self, **more: str) -> dict[str, str]:
        e = self.endpoints
        names = {
            "KAFKA": e.kafka_bootstrap,
            "SCHEMA_REGISTRY": e.registry_url,
            "S3_ENDPOINT": e.s3_endpoint,
            "S3_ACCESS_KEY": e.s3_access_key,
            "S3_SECRET_KEY": e.s3_secret_key,
            "NAMESPACE": self.namespace.prefix,
            "TOPIC": self.namespace.topic(RESULTS),
        }
        return {**os.environ, **names, **more}

    def frames(self, device_id: str) -> list[FrameRef]:
        """Frames of a device as they lie on vision.frames."""
        found = []
        for partition in self.log.partitions(FRAMES):
            bounds = self.log.bounds(FRAMES, partition)
            records = self.log.read(FRAMES, partition, bounds.earliest, bounds.end)
            found += [decode(r.value, FRAMES, self.schemas).frame for r in records if r.key == device_id.encode()]
        return found

    def write(self, *events: Any, partition: int = 0, raw: bytes | None = None) -> list[Position]:
        """Put events on vision.results."""

        async def run() -> list[Position]:
            positions = []
            for event in events:
                envelope = envelope_of(event, source="test", time_us=1, correlation_id="c", causation_id="c")
                value = encode(event, self.schemas)
                outgoing = Outgoing(topic=RESULTS, key=b"k", value=value, headers=to_headers(envelope), partition=partition)
                positions.append(await self.appender.append(outgoing))
            if raw is not None:
                outgoing = Outgoing(topic=RESULTS, key=b"k", value=raw, headers=(), partition=partition)
                positions.append(await self.appender.append(outgoing))
            return positions

        return asyncio.run(run())


@pytest.fixture
def world(stack: LocalStack, namespace: Namespace) -> Iterator[World]:
    e = stack.endpoints
    Topics(e.kafka_bootstrap, namespace, chain_partitions=2).ensure()
    schemas = RegistrySchemas(e.registry_url, namespace)
    schemas.register_all()
    blobs = S3BlobStore(e.s3_endpoint, access_key=e.s3_access_key, secret_key=e.s3_secret_key, bucket=namespace.bucket("frames"))
    blobs.make_bucket()
    appender, log = KafkaAppender(e.kafka_bootstrap, namespace), KafkaEventLog(e.kafka_bootstrap, namespace)
    yield World(endpoints=e, namespace=namespace, appender=appender, log=log, schemas=schemas, blobs=blobs)
    appender.close()
    log.close()


def derived(offset: int, device_id: str = "gate-1") -> ResultDerived:
    source = SourcePosition(topic="vision.inferences", partition=0, offset=offset, index=0)
    return ResultDerived(
        event_id=ids.event_id(source, "ResultDerived"),
        source=source,
        frame=FrameRef(
            frame_id=ids.frame_id(device_id, "s", offset),
            device_id=DeviceId(device_id),
            session_id="s",
            sequence=offset,
            captured_at_us=1_700_000_000_000_000 + offset,
            blob=BlobRef(sha256="0" * 64, size_bytes=1, media_type="image/png"),
            labels={},
        ),
        inference_id=EventId(str(uuid.uuid5(ids.NAMESPACE, str(offset)))),
        pipeline="gate_reader",
        outcome="nothing_read",
        readings=(),
        rules="test",
        detail="",
        derived_at_us=1_700_000_000_000_000,
    )


def corrected(offset: int) -> ResultCorrected:
    said = Conclusion(passage_id="p", frames_count=1, kind="code", confidence=0.5, votes_for=1, votes_total=1)
    source = SourcePosition(topic="vision.inferences", partition=0, offset=offset, index=1)
    return ResultCorrected(
        event_id=ids.event_id(source, "ResultCorrected"),
        source=source,
        device_id=DeviceId("gate-1"),
        pipeline="gate_reader",
        frame_id=ids.frame_id("gate-1", "s", offset),
        previous=said,
        conclusion=replace(said, label="X"),
        rules="test",
        derived_at_us=1,
    )


# --- producing -------------------------------------------------------------------------------------------------------


def test_a_receipt_names_what_lies_on_the_log(world: World) -> None:
    """What `send` returns is the frame as it stands on vision.frames, and its bytes are in the blob store."""
    at = datetime(2026, 11, 22, 3, 47, tzinfo=UTC)
    with FrameProducer.connect(**world.producer_connection()) as producer:
        receipt = producer.send(png(1), device_id="gate-1", captured_at=at, passage_id="p", labels={"lane": "2"})
    (found,) = world.frames("gate-1")
    assert found == receipt.frame
    assert (found.captured_at_us, found.passage_id, found.labels) == (int(at.timestamp()) * 1_000_000, "p", {"lane": "2"})
    assert world.blobs.get(found.blob) == png(1)
    assert receipt.task_id == found.frame_id


def test_frames_handed_over_without_waiting_keep_their_devices_order(world: World) -> None:
    """Many frames under way at once lie on the log in the order of the calls, without gaps, for each device."""
    with FrameProducer.connect(**world.producer_connection()) as producer:
        sending = [producer.submit(png(n % 200), device_id=f"gate-{n % 3}") for n in range(90)]
        assert producer.flush(30) == 0
        assert all(s.done() for s in sending)
    for device in range(3):
        assert [f.sequence for f in world.frames(f"gate-{device}")] == list(range(30))


def test_what_is_no_image_is_refused_before_it_is_sent(world: World, tmp_path: Path) -> None:
    """Refused frames raise at once, use up no sequence, and leave nothing on the log; files are taken by path."""
    (tmp_path / "frame.png").write_bytes(png(2))
    with FrameProducer.connect(**world.producer_connection()) as producer:
        for bad, reason in ((b"text", "not_an_image"), (png()[:-14], "truncated")):
            with pytest.raises(FrameRefusedError) as refused:
                producer.send(bad, device_id="gate-1")
            assert refused.value.reason == reason
        with pytest.raises(ContractError):
            producer.send(png(), device_id="gate-1", captured_at=datetime(2026, 11, 22))  # the point
        assert producer.send(tmp_path / "frame.png", device_id="gate-1").frame.sequence == 0
    assert len(world.frames("gate-1")) == 1
    with pytest.raises(ContractError):
        producer.send(png(), device_id="gate-1")


def test_a_frame_that_cannot_be_stored_is_given_up_and_the_next_goes_on(world: World) -> None:
    """With the blob store away a frame's future fails in time, nothing is announced, and the producer stays usable."""
    gone = S3BlobStore("127.0.0.1:1", access_key="a", secret_key="b" * 8, bucket="none")
    publisher = FramePublisher(appender=world.appender, blobs=gone, schemas=world.schemas, clock=system_clock, channel="sdk")
    with FrameProducer(publisher, store_s=0.5) as producer:
        sending: list[Future[Any]] = [producer.submit(png(n), device_id="gate-1") for n in range(3)]
        for one in sending:
            with pytest.raises(BlobStoreUnavailableError):
                one.result(20)
    assert world.frames("gate-1") == []


def test_a_broker_that_is_away_is_told_in_time(world: World) -> None:
    """`send` raises after its timeout, and leaving the context says that a frame did not get through."""
    appender = KafkaAppender("127.0.0.1:1", world.namespace)
    publisher = FramePublisher(appender=appender, blobs=world.blobs, schemas=world.schemas, clock=system_clock, channel="sdk")
    producer = FrameProducer(publisher, on_close=lambda: print(appender.close(0)))
    with pytest.raises(LogUnavailableError):
        producer.send(png(), device_id="gate-1", timeout_s=0.5)
    assert producer.close(timeout_s=0.2) == 1


# --- consuming -------------------------------------------------------------------------------------------------------


def consume(world: World, **how: Any) -> tuple[list[ReceivedResult], ResultConsumer]:
    """Everything there is, uncommitted; the consumer is closed."""
    with ResultConsumer.connect(**world.connection(), **how) as results:
        return list(results.until_idle(IDLE_S)), results


def offsets(found: list[ReceivedResult]) -> list[int]:
    return [r.event.source.offset for r in found]


def test_results_come_typed_and_in_order_with_their_position(world: World) -> None:
    """Both event types are given as they were written, each with where it lies."""
    events = [derived(1), derived(2), corrected(2), derived(3)]
    positions = world.write(*events)
    found, _ = consume(world, start="earliest")
    assert [r.event for r in found] == events
    assert [r.position for r in found] == positions
    assert {r.device_id for r in found} == {"gate-1"}


def test_repeats_are_dropped(world: World) -> None:
    """What a crashed processor wrote again is given once, also where the repeat reaches back over several events."""
    world.write(derived(1), derived(2), corrected(2), derived(3), derived(2), corrected(2), derived(3), derived(4))
    found, results = consume(world, start="earliest")
    assert [(r.event.source.offset, r.event.source.index) for r in found] == [(1, 0), (2, 0), (2, 1), (3, 0), (4, 0)]
    assert results.repeats_count == 3


def test_what_was_not_committed_comes_again_and_what_was_does_not(world: World) -> None:
    """A group that stops without committing gets its results again; after a commit it goes on behind it."""
    world.write(*(derived(n) for n in range(6)))
    with ResultConsumer.connect(**world.connection(), group="g", start="earliest") as results:
        for result in results.until_idle(IDLE_S):
            if result.event.source.offset == 2:
                results.commit()
    again, _ = consume(world, group="g", start="earliest")
    assert offsets(again) == [3, 4, 5]


def test_repeats_are_dropped_across_a_restart(world: World) -> None:
    """A repeat of something given out before the restart is still known for one: the commit carries the last source."""
    world.write(derived(1), derived(2), derived(3))
    with ResultConsumer.connect(**world.connection(), group="g", start="earliest") as results:
        assert offsets(list(results.until_idle(IDLE_S))) == [1, 2, 3]
        results.commit()
    world.write(derived(2), derived(3), derived(4))
    found, results = consume(world, group="g", start="earliest")
    assert offsets(found) == [4]
    assert results.repeats_count == 2


def test_reading_begins_where_it_is_asked_to(world: World) -> None:
    """From the earliest, from a time of the broker, from offsets, and for a group that has not committed from a time too."""
    world.write(derived(1), derived(2))
    (position,) = world.write(derived(3))
    record = next(iter(world.log.read(RESULTS, 0, position.offset, position.offset + 1)))
    at = datetime.fromtimestamp(record.appended_at_ms / 1000, UTC)
    world.write(derived(4))
    from_time, _ = consume(world, start=at)
    assert 3 in offsets(from_time)
    assert offsets(from_time)[-1] == 4
    later = at + timedelta(hours=1)
    assert consume(world, start=later)[0] == []
    assert offsets(consume(world, start={0: position.offset})[0]) == [3, 4]
    assert offsets(consume(world, start=at, group="new")[0]) == offsets(from_time)
    with pytest.raises(ConfigurationError):
        ResultConsumer.connect(**world.connection(), start="noon")


def test_records_that_cannot_be_decoded_are_reported_and_passed_over(world: World) -> None:
    """Garbage, an unknown schema id and a foreign event reach `on_error`, and the results around them are given."""
    bad: list[tuple[Record, ContractError]] = []
    world.write(derived(1), raw=b"\x01garbage")
    world.write(derived(2), raw=struct.pack(">bI", 0, 99_999_999) + b"x")
    world.write(derived(3), raw=encode(derived(4), world.schemas)[:-3])
    world.write(derived(5))
    with ResultConsumer.connect(
        **world.connection(), start="earliest", on_error=lambda record, error: bad.append((record, error))
    ) as results:
        found = list(results.until_idle(IDLE_S))
    assert offsets(found) == [1, 2, 3, 5]
    assert results.skipped_count == 3
    assert [record.offset for record, _ in bad] == [1, 3, 5]


def test_a_consumer_without_a_group_commits_nothing(world: World) -> None:
    """Asking it to is a mistake that is named."""
    with ResultConsumer.connect(**world.connection(), start="earliest") as results, pytest.raises(ConfigurationError):
        results.commit()


def test_members_of_a_group_share_the_partitions_and_lose_nothing(world: World) -> None:
    """A member that leaves without committing hands what it had to the other one."""
    for partition in range(2):
        world.write(*(derived(n) for n in range(5)), partition=partition)
    with ResultConsumer.connect(**world.connection(), group="g", start="earliest") as first:
        assert first.receive(15) is not None
        with ResultConsumer.connect(**world.connection(), group="g", start="earliest") as second:
            threading.Thread(target=first.close).start()
            found = {(r.position.partition, r.event.source.offset) for r in second.until_idle(10.0)}
    assert found == {(p, n) for p in range(2) for n in range(5)}


def test_the_command_knows_repeats_of_what_lies_before_its_start(world: World) -> None:
    """`hindsight results --from T` shows what was new since T, and not what had been written before T and was written again."""
    world.write(derived(1), derived(2), derived(3))
    (position,) = world.write(derived(4))
    (last,) = world.log.read(RESULTS, 0, position.offset, position.offset + 1)
    while system_clock() // 1000 <= last.appended_at_ms + 1:
        time.sleep(0)
    world.write(derived(2), derived(3), derived(4), derived(5))
    at = datetime.fromtimestamp((last.appended_at_ms + 1) / 1000, UTC).isoformat()
    e = world.endpoints
    settings = {
        "NAMESPACE": world.namespace.prefix,
        "REGISTRY__URL": e.registry_url,
        "KAFKA__BOOTSTRAP_SERVERS": e.kafka_bootstrap,
    }
    done = subprocess.run(
        [sys.executable, "-m", "topology.cli", "results", "--from", at, "--format", "json"],
        env={**os.environ, **{f"HINDSIGHT_{name}": value for name, value in settings.items()}},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["source"]["offset"] for line in done.stdout.splitlines()] == [5]


# --- examples --------------------------------------------------------------------------------------------------------


def test_the_examples_in_the_docstrings_run(world: World) -> None:
    """The docstrings of both classes are executed as they stand."""
    world.write(derived(1))
    e = world.endpoints
    names = {
        "kafka": e.kafka_bootstrap,
        "registry": e.registry_url,
        "s3": e.s3_endpoint,
        "access_key": e.s3_access_key,
        "secret_key": e.s3_secret_key,
        "namespace": world.namespace.prefix,
        "image": png(3),
    }
    runner = doctest.DocTestRunner()
    tried = 0
    for module in (producer_module, consumer_module):
        for example in doctest.DocTestFinder().find(module, extraglobs=names):
            tried += runner.run(example).attempted
    assert tried >= 5
    assert runner.failures == 0


def code_of(page: str, mark: str = "") -> str:
    """The first Python block of a page, after a mark."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text[text.index(mark) :], re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_plain_consumer_of_the_docs_reads_results_with_nothing_of_ours(world: World, tmp_path: Path) -> None:
    """The block on the page, run outside this checkout, prints every result by the registry's schema alone."""
    code = code_of("consume-results.md", "<!-- run: plain -->")
    assert not re.search(r"^\s*(from|import) (schemas|streams|processors|topology)", code, re.MULTILINE)
    world.write(derived(1), derived(2), corrected(2))
    (tmp_path / "consumer.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, "consumer.py"], cwd=tmp_path, env=world.environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    deadline = threading.Timer(60, process.kill)
    deadline.start()
    try:
        found = [json.loads(line) for _, line in zip(range(3), process.stdout, strict=False)]
    finally:
        deadline.cancel()
        process.kill()
        process.wait()
    assert [f["event"].rpartition(".")[2] for f in found] == ["ResultDerived", "ResultDerived", "ResultCorrected"]
    assert found[0]["frame"]["frame_id"] == derived(1).frame.frame_id
    assert found[0]["frame"]["captured_at_us"].startswith("2023-11-14")


@pytest.mark.parametrize(
    ("page", "mark", "expected"),
    [
        ("consume-results.md", "<!-- run: sdk -->", "gate-1 ResultDerived 0"),
        ("publish-frames.md", "", "left 0"),
    ],
)
def test_the_pages_about_the_sdk_run(world: World, tmp_path: Path, page: str, mark: str, expected: str) -> None:
    """Each page's program runs to its end and prints what it should."""
    world.write(derived(1))
    (tmp_path / "image.png").write_bytes(png(4))
    environment = world.environment(IMAGE=str(tmp_path / "image.png"), PYTHONPATH=str(CHECKOUT))
    done = subprocess.run(
        [sys.executable, "-c", code_of(page, mark)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_the_plain_producer_of_the_docs_sends_a_frame_with_nothing_of_ours(world: World, tmp_path: Path) -> None:
    """The block on the page, run outside this checkout, leaves a frame where our own hash says, with its image in the store."""
    code = code_of("publish-frames.md", "<!-- run: plain -->")
    assert not re.search(r"^\s*(from|import) (schemas|streams|processors|topology)", code, re.MULTILINE)
    (tmp_path / "image.png").write_bytes(png(5))
    device = "gate-3"
    assert partition_of(device.encode(), 2) != zlib.crc32(device.encode()) % 2
    (tmp_path / "producer.py").write_text(code.replace("gate-1", device))
    environment = world.environment(IMAGE="image.png", TOPIC=world.namespace.topic(FRAMES), BUCKET=world.blobs.bucket)
    done = subprocess.run(
        [sys.executable, "producer.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "left 0\n"), done.stderr
    (frame,) = world.frames(device)
    assert world.blobs.get(frame.blob) == png(5)
    assert world.log.bounds(FRAMES, partition_of(device.encode(), 2)).end == 1


def test_importing_streams_stays_light() -> None:
    """`import streams` loads no client library; the SDK comes when it is asked for."""
    code = "import sys, streams; assert 'confluent_kafka' not in sys.modules; from streams import FrameProducer, ResultConsumer"
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, timeout=60)


def test_frames_carry_their_trace(world: World) -> None:
    """A traceparent given to `send` is a header of the frame's record."""
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with FrameProducer.connect(**world.producer_connection()) as producer:
        at = producer.send(png(9), device_id="gate-1", traceparent=parent).position
    (record,) = world.log.read(FRAMES, at.partition, at.offset, at.offset + 1)
    assert header(record.headers, "traceparent") == parent
