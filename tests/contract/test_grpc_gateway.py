"""The gRPC door and the edge client, against real Kafka, registry and S3, with processes that are killed."""

import asyncio
import contextlib
import io
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from schemas import catalogue, ids
from schemas.codec import Schemas, decode
from schemas.envelope import header
from schemas.events import FrameCaptured, FrameRefused, FramesDropped
from schemas.types import BlobRef
from streams.blobs import S3BlobStore, digest
from streams.edge import Capture, EdgeClient, Pace, Spool
from streams.grpc_gateway import IMAGE_BYTES_KEY, SERVICE, FrameGateway, GatewayLimits, serve
from streams.grpc_gateway.generate import generate
from streams.grpc_gateway.generated.frames_pb2 import DroppedFrames, Frame, FrameAck
from streams.grpc_gateway.generated.frames_pb2_grpc import FrameServiceStub
from streams.kafka_appender import KafkaAppender
from streams.kafka_log import KafkaEventLog
from streams.keyring import KeyRing
from streams.names import Namespace
from streams.publishing import FramePublisher
from streams.records import system_clock
from streams.registry import RegistrySchemas
from streams.sealed_blobs import SealedBlobs
from streams.topics import Topics
from topology.stack.local import LocalStack

ROOT = Path(__file__).parents[2]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
QUICK = Pace(backoff_first_s=0.05, backoff_max_s=0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The servers behind the door, and what a test can ask of them."""

    stack: LocalStack
    namespace: Namespace
    schemas: Schemas
    blobs: S3BlobStore
    log: KafkaEventLog
    publisher: FramePublisher

    def events(self, topic: str, device_id: str) -> list[Any]:
        """Decoded events of a device, in the order of the log."""
        found = []
        for partition in self.log.partitions(topic):
            bounds = self.log.bounds(topic, partition)
            for record in self.log.read(topic, partition, bounds.earliest, bounds.end):
                found += [decode(record.value, topic, self.schemas)] if record.key == device_id.encode() else []
        return found

    def captured(self, device_id: str) -> list[FrameCaptured]:
        return [e for e in self.events(catalogue.FRAMES, device_id) if isinstance(e, FrameCaptured)]

    def assert_once(self, device_id: str, session_id: str, count: int) -> None:
        """Every frame of 0 to count is on the log under its derived id, in S3, and no other is."""
        frames = {e.frame.frame_id: e.frame for e in self.captured(device_id)}
        assert sorted(f.sequence for f in frames.values()) == list(range(count))
        assert set(frames) == {ids.frame_id(device_id, session_id, n) for n in range(count)}
        store = SealedBlobs(self.blobs, self.blobs, KeyRing(self.blobs, b""), seals=False)
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(store.get, (f.blob for f in frames.values())))


@pytest.fixture(scope="module")
def world(stack: LocalStack) -> Iterator[World]:
    """One namespace for this module; each test has a device of its own."""
    namespace = Namespace(f"g{uuid.uuid4().hex[:8]}")
    at = stack.endpoints
    Topics(at.kafka_bootstrap, namespace).ensure()
    schemas = RegistrySchemas(at.registry_url, namespace)
    schemas.register_all()
    blobs = S3BlobStore(
        at.s3_endpoint, access_key=at.s3_access_key, secret_key=at.s3_secret_key, bucket=namespace.bucket("blobs")
    )
    blobs.make_bucket()
    log = KafkaEventLog(at.kafka_bootstrap, namespace)
    appender = KafkaAppender(at.kafka_bootstrap, namespace)
    publisher = FramePublisher(appender=appender, blobs=blobs, schemas=schemas, clock=system_clock, channel="grpc")
    yield World(stack=stack, namespace=namespace, schemas=schemas, blobs=blobs, log=log, publisher=publisher)
    appender.close()
    log.close()


@pytest.fixture
def device() -> str:
    return f"gate-{uuid.uuid4().hex[:8]}"


@contextlib.asynccontextmanager
async def gateway_at(
    publisher: FramePublisher, limits: GatewayLimits = GatewayLimits(), port: int = 0, **more: Any
) -> AsyncIterator[int]:
    """A gateway in this process; gives its port."""
    stop, up = asyncio.Event(), asyncio.get_running_loop().create_future()
    gateway = FrameGateway(publisher, limits, **more)
    serving = asyncio.create_task(serve(gateway, address=f"127.0.0.1:{port}", stop=stop, drain_s=2, started=up.set_result))
    await asyncio.wait({serving, up}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield up.result() if up.done() else serving.result()
    finally:
        stop.set()
        await serving


@contextlib.asynccontextmanager
async def stub_at(port: int) -> AsyncIterator[FrameServiceStub]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield FrameServiceStub(channel)


def jpeg(number: int = 0, side_px: int = 48) -> bytes:
    """A small JPEG of its own: bytes after the end of one are borne."""
    out = io.BytesIO()
    Image.new("RGB", (side_px, side_px), (number % 256, 90, 30)).save(out, "JPEG")
    return out.getvalue() + number.to_bytes(8, "big")


def frame(device_id: str, sequence: int, image: bytes | None = None, *, session_id: str = "s1", **more: Any) -> Frame:
    content = jpeg(sequence) if image is None else image
    captured = more.pop("captured_at_us", 1_790_000_000_000_000 + sequence % 1000)
    return Frame(device_id=device_id, session_id=session_id, sequence=sequence, captured_at_us=captured, image=content, **more)


async def exchange(stub: FrameServiceStub, frames: list[Frame], **more: Any) -> list[FrameAck]:
    return [ack async for ack in stub.StreamFramesAcked(iter(frames), **more)]


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Ask again until it is so."""
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "not so within the time"
        await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_the_generated_code_is_of_this_proto(tmp_path: Path) -> None:
    """What is kept in generated/ is what protoc makes of frames.proto, byte for byte."""
    generate(tmp_path)
    for name in ("frames_pb2.py", "frames_pb2.pyi", "frames_pb2_grpc.py"):
        inside = Path("streams/grpc_gateway/generated") / name
        assert (ROOT / inside).read_bytes() == (tmp_path / inside).read_bytes(), "run: python -m streams.grpc_gateway.generate"


def test_every_acknowledged_frame_is_on_the_log_and_in_the_store(world: World, device: str) -> None:
    """At the moment an acknowledgement arrives, the log holds the frame at the position it names, and S3 its bytes."""
    acks: list[FrameAck] = []

    async def run() -> None:
        async with gateway_at(world.publisher) as port, stub_at(port) as stub:
            call = stub.StreamFramesAcked()
            for sequence in range(20):
                sent = frame(device, sequence, passage_id="p7", labels={"lane": "2"}, traceparent=TRACE if sequence == 3 else "")
                await call.write(sent)
            for sequence in range(20):
                ack = await call.read()
                assert (ack.sequence, ack.status) == (sequence, FrameAck.ACCEPTED)
                at = ack.position
                assert world.log.bounds(at.topic, at.partition).end > at.offset
                assert world.blobs.exists(BlobRef(sha256=digest(jpeg(sequence)), size_bytes=0, media_type=""))
                acks.append(ack)
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF

    asyncio.run(run())
    at = acks[0].position
    records = {r.offset: r for r in world.log.read(at.topic, at.partition, at.offset, acks[-1].position.offset + 1)}
    for sequence, ack in enumerate(acks):
        record = records[ack.position.offset]
        event = decode(record.value, at.topic, world.schemas)
        assert event.frame.frame_id == ids.frame_id(device, "s1", sequence)
        assert (event.frame.passage_id, dict(event.frame.labels), event.channel) == ("p7", {"lane": "2"}, "grpc")
        assert world.blobs.get(event.frame.blob) == jpeg(sequence)
        assert header(record.headers, "traceparent") == (TRACE if sequence == 3 else "")


def test_one_way_streams_are_counted(world: World, device: str) -> None:
    """StreamFrames says how many frames were processed, rejected and duplicate, once all of them are safe."""

    async def run() -> None:
        async with gateway_at(world.publisher) as port, stub_at(port) as stub:
            frames = [frame(device, n) for n in (0, 1, 2, 1, 3)] + [frame(device, 4, b"garbage")]
            result = await stub.StreamFrames(iter(frames), metadata=(("traceparent", TRACE),))
        assert (result.frames_processed, result.frames_rejected, result.frames_duplicate) == (4, 1, 1)

    asyncio.run(run())
    world.assert_once(device, "s1", 4)


def test_a_repeat_is_not_published_again(world: World, device: str) -> None:
    """A sequence that was sent before, in this stream or an earlier one, is answered DUPLICATE and is on the log once."""

    async def run() -> None:
        async with gateway_at(world.publisher) as port, stub_at(port) as stub:
            first = await exchange(stub, [frame(device, n) for n in (0, 1, 1, 0, 2)])
            again = await exchange(stub, [frame(device, n) for n in (1, 2, 3)])
        assert [a.status for a in first] == [1, 1, 3, 3, 1]
        assert [a.status for a in again] == [3, 3, 1]
        assert first[2].position == first[1].position == again[0].position

    asyncio.run(run())
    assert [e.frame.sequence for e in world.captured(device)] == [0, 1, 2, 3]


def test_refused_frames_are_on_the_log_and_the_stream_goes_on(world: World, device: str) -> None:
    """A frame that is no image, too large, cut off, too many pixels or of a bad time is REJECTED, recorded, and passed over."""
    bad = [
        frame(device, 1, b"this is no image"),
        frame(device, 2, b""),
        frame(device, 3, jpeg()[:300]),
        frame(device, 4, jpeg() + bytes(40_000)),
        frame(device, 5, jpeg(side_px=400)),
        frame(device, 6, captured_at_us=0),
        frame(device, 7, labels={"x" * 300: "y"}),
    ]
    reasons = [
        "not_an_image",
        "not_an_image",
        "truncated",
        "too_large",
        "too_many_pixels",
        "invalid_captured_at",
        "invalid_labels",
    ]

    async def run() -> list[FrameAck]:
        limits = GatewayLimits(image_bytes_max=40_000, image_pixels_max=100_000)
        async with gateway_at(world.publisher, limits) as port, stub_at(port) as stub:
            return await exchange(stub, [frame(device, 0), *bad, frame(device, 8)])

    acks = asyncio.run(run())
    assert [a.status for a in acks] == [1, *[2] * len(bad), 1]
    assert [a.reason for a in acks[1:-1]] == reasons
    refused = [e for e in world.events(catalogue.FRAMES, device) if isinstance(e, FrameRefused)]
    assert [(e.frame.sequence, e.reason) for e in refused] == list(enumerate(reasons, start=1))
    assert [e.frame.sequence for e in world.captured(device)] == [0, 8]


def test_an_unknown_device_leaves_nothing_on_the_log(world: World, device: str) -> None:
    """A frame of a device that may not send, or of no place, is REJECTED and recorded nowhere; the stream goes on."""

    async def run() -> list[FrameAck]:
        async with gateway_at(world.publisher, known=lambda name: name == device) as port, stub_at(port) as stub:
            bad = [frame("stranger", 0), frame("not/a device", 0), frame(device, 0, session_id=""), frame(device, 2**63)]
            return await exchange(stub, [*bad, frame(device, 0)])

    acks = asyncio.run(run())
    assert [a.reason for a in acks] == ["unknown_device", "invalid_device", "invalid_session", "invalid_sequence", ""]
    assert world.events(catalogue.FRAMES, "stranger") == []
    assert [type(e) for e in world.events(catalogue.FRAMES, device)] == [FrameCaptured]


def test_word_of_dropped_frames_is_an_event(world: World, device: str) -> None:
    """A notice of dropped frames becomes FramesDropped on vision.frames, in its place; one that cannot be is REJECTED."""

    def notice(first: int, last: int, count: int) -> Frame:
        dropped = DroppedFrames(first_sequence=first, last_sequence=last, frames_count=count, reason="spool_full_oldest_first")
        return Frame(device_id=device, session_id="s1", sequence=first, dropped=dropped)

    async def run() -> list[FrameAck]:
        async with gateway_at(world.publisher) as port, stub_at(port) as stub:
            return await exchange(stub, [frame(device, 0), notice(1, 4, 4), frame(device, 5), notice(9, 8, 1), notice(6, 7, 3)])

    acks = asyncio.run(run())
    assert [a.status for a in acks] == [1, 1, 1, 2, 2]
    captured, dropped, _ = world.events(catalogue.FRAMES, device)
    assert isinstance(captured, FrameCaptured)
    assert isinstance(dropped, FramesDropped)
    assert (dropped.first_sequence, dropped.last_sequence, dropped.frames_count) == (1, 4, 4)


def test_limits_of_streams(world: World, device: str) -> None:
    """Too many streams, too many of one device, too many frames in one, and silence each end a stream with their status."""

    async def run() -> None:
        limits = GatewayLimits(streams_max=2, streams_per_device_max=1, frames_per_stream_max=3, idle_s=0.5)
        async with gateway_at(world.publisher, limits) as port, stub_at(port) as stub:
            first = stub.StreamFramesAcked()
            await first.write(frame(device, 0))
            assert (await first.read()).status == FrameAck.ACCEPTED
            assert await refused(stub, [frame(device, 1)]) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"1 streams carry frames of {device}; try again later",
            )
            second = stub.StreamFramesAcked()
            await second.initial_metadata()
            code, detail = await refused(stub, [frame("other", 1)])
            assert (code, detail) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "2 streams are open; try again later")
            assert await first.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await second.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            third = stub.StreamFramesAcked(iter([frame(device, n) for n in range(1, 9)]))
            assert [(await third.read()).sequence for _ in range(3)] == [1, 2, 3]
            assert await third.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    async def refused(stub: FrameServiceStub, frames: list[Frame]) -> tuple[grpc.StatusCode, str | None]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exchange(stub, frames)
        return caught.value.code(), caught.value.details()

    asyncio.run(run())


def test_health_and_reflection(world: World) -> None:
    """A client that knows nothing finds the service by reflection, and that it serves by the health protocol."""

    async def run() -> None:
        async with gateway_at(world.publisher) as port:
            await asyncio.to_thread(look, port)

    def look(port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
            methods = {m.name for m in pool.FindServiceByName("hindsight.v1.FrameService").methods}
            assert methods == {"StreamFrames", "StreamFramesAcked"}

    asyncio.run(run())


class Relay:
    """The way to Kafka through a port of its own, closed until it is opened."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self.port = free_port()

    async def open(self) -> asyncio.Server:
        return await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._port))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while chunk := await source.read(65536):
                    sink.write(chunk)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


def test_while_kafka_is_away_the_client_waits_and_then_goes_on(world: World, device: str) -> None:
    """With no broker nothing is acknowledged, a window of frames is taken in and no more; later all is published in order."""
    limits = GatewayLimits(window_frames=8)
    image = jpeg(1) + bytes(200_000)

    async def run() -> None:
        relay = Relay(world.stack.endpoints.kafka_bootstrap)
        appender = KafkaAppender(f"127.0.0.1:{relay.port}", world.namespace)
        publisher = FramePublisher(
            appender=appender, blobs=world.blobs, schemas=world.schemas, clock=system_clock, channel="grpc"
        )
        written = 0

        async def write(call: Any) -> None:
            nonlocal written
            for sequence in range(60):
                await call.write(frame(device, sequence, image + sequence.to_bytes(4, "big")))
                written += 1
            await call.done_writing()

        async with gateway_at(publisher, limits) as port, stub_at(port) as stub:
            call = stub.StreamFramesAcked()
            writing = asyncio.create_task(write(call))
            reading = asyncio.ensure_future(call.read())
            settled = -1
            while settled != written or written < limits.window_frames:
                settled = written
                await asyncio.wait({reading}, timeout=1.0)
            assert not reading.done(), "acknowledged without a broker"
            # The window, one waiting for room, and what HTTP/2 buffers between the two.
            assert limits.window_frames <= written < 60, "the client was not held up"
            server = await relay.open()
            acks = [await reading] + [await call.read() for _ in range(59)]
            await writing
            assert [(a.sequence, a.status) for a in acks] == [(n, 1) for n in range(60)]
            server.close()
        appender.close()

    asyncio.run(run())
    assert [e.frame.sequence for e in world.captured(device)] == list(range(60))


def test_a_client_that_comes_back_while_kafka_is_away_publishes_once(world: World, device: str) -> None:
    """Frames sent again on a new stream while their first sending still waits for the broker are published once."""

    async def run() -> None:
        relay = Relay(world.stack.endpoints.kafka_bootstrap)
        appender = KafkaAppender(f"127.0.0.1:{relay.port}", world.namespace)
        publisher = FramePublisher(
            appender=appender, blobs=world.blobs, schemas=world.schemas, clock=system_clock, channel="grpc"
        )
        async with gateway_at(publisher, GatewayLimits(window_frames=4)) as port, stub_at(port) as stub:
            for _ in range(3):
                call = stub.StreamFramesAcked()
                writing = [asyncio.ensure_future(call.write(frame(device, n))) for n in range(10)]
                await asyncio.wait({asyncio.ensure_future(call.read())}, timeout=0.5)
                call.cancel()
                await asyncio.gather(*writing, return_exceptions=True)
            server = await relay.open()
            acks = await exchange(stub, [frame(device, n) for n in range(10)])
            assert [a.sequence for a in acks] == list(range(10))
            server.close()
        appender.close()

    asyncio.run(run())
    assert [e.frame.sequence for e in world.captured(device)] == list(range(10))


def gateway_process(world: World, port: int, *, packs: bool = False) -> "subprocess.Popen[str]":
    at = world.stack.endpoints
    where = {
        "namespace": world.namespace.prefix,
        "registry": at.registry_url,
        "kafka": at.kafka_bootstrap,
        "s3": at.s3_endpoint,
        "access": at.s3_access_key,
        "secret": at.s3_secret_key,
        "port": port,
        "packs": packs,
    }
    command = [sys.executable, "-m", "tests.contract.gateway_process", json.dumps(where)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) == port
    return process


@contextlib.contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_sigterm_drains(world: World, device: str) -> None:
    """On SIGTERM the gateway answers what it has read, ends the stream as UNAVAILABLE, and is gone within its drain time."""

    async def run() -> None:
        port = free_port()
        with ended(gateway_process(world, port)) as process:
            async with stub_at(port) as stub:
                call = stub.StreamFramesAcked()
                acked: list[int] = []
                for sequence in range(50):
                    await call.write(frame(device, sequence))
                acked.append((await call.read()).sequence)
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    while True:
                        acked.append((await call.read()).sequence)
                assert await call.code() is grpc.StatusCode.UNAVAILABLE
                assert "draining" in await call.details()
                assert await asyncio.to_thread(process.wait, 10) == 0
        # Whatever it published was acknowledged, and the other way round.
        assert acked == [e.frame.sequence for e in world.captured(device)]

    asyncio.run(run())


@pytest.mark.parametrize("packs", [False, True], ids=["an object each", "in segments"])
def test_the_gateway_is_killed_and_drained_and_nothing_is_lost(world: World, device: str, tmp_path: Path, packs: bool) -> None:
    """While a device sends, its gateway is stopped and killed several times: every frame is there with its bytes, and none twice
    by id."""
    count, port = 300, free_port()

    async def run() -> str:
        with Spool(tmp_path, device_id=device, limit_bytes=50_000_000) as spool:
            client = EdgeClient(f"127.0.0.1:{port}", spool, pace=QUICK)
            stop = asyncio.Event()
            sending = asyncio.create_task(client.run(stop))
            for sequence in range(count):
                await client.offer(Capture(image=jpeg(sequence), captured_at_us=system_clock()))
            for turn, ending in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), start=1):
                with ended(await asyncio.to_thread(gateway_process, world, port, packs=packs)) as process:
                    await until(lambda turn=turn: client.progress.acknowledged >= turn * 40)
                    process.send_signal(ending)
                    await asyncio.to_thread(process.wait, 15)
            with ended(await asyncio.to_thread(gateway_process, world, port, packs=packs)):
                await asyncio.wait_for(client.drained(), 60)
                stop.set()
                await sending
            assert client.progress.acknowledged == count
            return spool.session_id

    world.assert_once(device, asyncio.run(run()), count)
    assert any(e.frame.blob.segment is not None for e in world.captured(device)) == packs


def test_the_edge_device_is_killed_and_goes_on(world: World, device: str, tmp_path: Path) -> None:
    """kill -9 of the edge client at random points, again and again: in the end every frame is there once by its id."""
    count = 400
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(jpeg())
    rolls = random.Random(347)

    def edge_process(port: int) -> "subprocess.Popen[str]":
        told = {
            "folder": str(tmp_path / "spool"),
            "address": f"127.0.0.1:{port}",
            "device_id": device,
            "count": count,
            "picture": str(picture),
        }
        command = [sys.executable, "-m", "tests.contract.edge_process", json.dumps(told)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def killed_after(port: int, acknowledged: int) -> None:
        with ended(edge_process(port)) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= acknowledged:
                    break
            os.kill(process.pid, signal.SIGKILL)

    async def run() -> None:
        async with gateway_at(world.publisher) as port:
            for _ in range(4):
                await asyncio.to_thread(killed_after, port, rolls.randrange(10, 60))
            with ended(edge_process(port)) as process:
                assert process.stdout is not None
                await asyncio.to_thread(process.stdout.read)
                assert process.wait() == 0

    asyncio.run(run())
    with Spool(tmp_path / "spool", device_id=device, limit_bytes=1_000) as spool:
        assert spool.is_empty()
        world.assert_once(device, spool.session_id, count)


def test_a_full_spool_drops_and_says_exactly_what(world: World, device: str, tmp_path: Path) -> None:
    """With no gateway a full spool drops its oldest; later the log holds each offered frame, or word that it was dropped."""
    offered = 200

    async def run() -> int:
        port = free_port()
        with Spool(tmp_path, device_id=device, limit_bytes=60_000, drop="oldest") as spool:
            client = EdgeClient(f"127.0.0.1:{port}", spool, pace=QUICK)
            stop = asyncio.Event()
            sending = asyncio.create_task(client.run(stop))
            for sequence in range(offered):
                await client.offer(Capture(image=jpeg(sequence), captured_at_us=system_clock()))
            assert spool.contents().bytes_used <= 60_000
            async with gateway_at(world.publisher, port=port):
                await asyncio.wait_for(client.drained(), 30)
                stop.set()
                await sending
            assert client.progress.offered == offered
            return client.progress.dropped

    dropped = asyncio.run(run())
    events = world.events(catalogue.FRAMES, device)
    notices = [e for e in events if isinstance(e, FramesDropped)]
    assert 0 < dropped < offered
    assert sum(e.frames_count for e in notices) == dropped
    assert [e.reason for e in notices] == ["spool_full_oldest_first"]
    numbers = [n for e in notices for n in range(e.first_sequence, e.last_sequence + 1)]
    numbers += [e.frame.sequence for e in events if isinstance(e, FrameCaptured)]
    assert sorted(numbers) == list(range(offered))


def test_a_frame_too_large_for_the_gateway_becomes_a_notice(world: World, device: str, tmp_path: Path) -> None:
    """A frame above what the gateway says it takes is given up with word of it, and does not hold up those behind it."""

    async def run() -> None:
        limits = GatewayLimits(image_bytes_max=20_000, message_bytes_max=30_000)
        async with gateway_at(world.publisher, limits) as port:
            with Spool(tmp_path, device_id=device, limit_bytes=1_000_000) as spool:
                client = EdgeClient(f"127.0.0.1:{port}", spool, pace=QUICK)
                stop = asyncio.Event()
                for image in (jpeg(0), jpeg(1) + bytes(100_000), jpeg(2)):
                    await client.offer(Capture(image=image, captured_at_us=system_clock()))
                sending = asyncio.create_task(client.run(stop))
                await asyncio.wait_for(client.drained(), 20)
                stop.set()
                await sending
            async with stub_at(port) as stub:
                call = stub.StreamFramesAcked()
                assert dict(await call.initial_metadata())[IMAGE_BYTES_KEY] == "20000"
                call.cancel()

    asyncio.run(run())
    first, notice, last = world.events(catalogue.FRAMES, device)
    assert (first.frame.sequence, notice.first_sequence, notice.reason, last.frame.sequence) == (
        0,
        1,
        "larger_than_gateway_takes",
        2,
    )


PUBLISH = "import typer; from topology.cli import publish; app = typer.Typer(); publish.register(app); app()"


def publish_process(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PUBLISH, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_publish_survives_its_end_and_the_absence_of_the_gateway(world: World, device: str, tmp_path: Path) -> None:
    """`hindsight publish` killed, interrupted and run again sends each image of its folder exactly once, then ends with 0."""
    count = 60
    images = tmp_path / "images"
    images.mkdir()
    for number in range(count):
        (images / f"{number:04}.jpg").write_bytes(jpeg(number))
    port, folder = free_port(), tmp_path / "spool"
    command = (str(images), "--device", device, "--fps", "100", "--gateway", f"127.0.0.1:{port}", "--spool", str(folder))

    def spooled_by(process: "subprocess.Popen[str]") -> int:
        assert process.poll() is None
        address = f"file:{folder}/frames.sqlite?mode=ro"
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            row = database.execute("SELECT value FROM about WHERE name = 'next_sequence'").fetchone()
            return int(row[0]) if row else 0
        return 0

    async def run() -> None:
        for number, code, wanted in ((signal.SIGKILL, -9, 10), (signal.SIGINT, 130, 25)):
            with ended(publish_process(*command)) as process:
                await until(lambda process=process, wanted=wanted: spooled_by(process) >= wanted)
                process.send_signal(number)
                _, said = await asyncio.to_thread(process.communicate)
                assert process.returncode == code
        assert "the next run sends them" in said
        async with gateway_at(world.publisher, port=port):
            with ended(publish_process(*command)) as process:
                _, said = await asyncio.to_thread(process.communicate)
                assert process.returncode == 0, said

    asyncio.run(run())
    with Spool(folder, device_id=device, limit_bytes=1_000) as spool:
        world.assert_once(device, spool.session_id, count)
    assert sorted(e.frame.blob.sha256 for e in world.captured(device)) == sorted(digest(jpeg(n)) for n in range(count))
