"""The HTTP gateway, served by uvicorn, against real Kafka, registry, Redis and S3."""

import asyncio
import json
import socket
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2 as httpx
import pytest
import uvicorn
from redis.asyncio import Redis

from processors.views.folds import FrameOutcome, FrameResult
from schemas import ids
from schemas.catalogue import ASSESSMENTS, FRAMES, RESULTS
from schemas.codec import decode, encode
from schemas.envelope import envelope_of, header, to_headers
from schemas.events import FrameCaptured, FrameRefused, ResultDerived
from schemas.plain import canonical_json, to_plain
from schemas.types import BlobRef, DeviceId, EventId, FrameRef, SourcePosition
from streams.blobs import S3BlobStore, digest
from streams.http_gateway import HttpLimits, http_app
from streams.http_gateway.submission import fingerprint, session_of
from streams.idempotency import RedisSubmissions, Reservation
from streams.kafka_appender import KafkaAppender
from streams.kafka_log import KafkaEventLog
from streams.names import Namespace
from streams.publishing import FramePublisher
from streams.records import Outgoing, Record, system_clock
from streams.redis_views import RedisViewStore
from streams.registry import RegistrySchemas
from streams.topics import Topics
from topology.stack.local import LocalStack

PARTITIONS = 4
DEVICES = {"gate-1", "gate-2", "gate-3"}
LIMITS = HttpLimits(image_bytes=200_000, image_pixels=1_000_000, publish_s=10, ready_s=5, stream_events=8, heartbeat_s=0.2)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def png(width: int = 4, height: int = 3, shade: int = 0) -> bytes:
    """A grey PNG; `shade` makes it another one."""
    rows = (b"\x00" + bytes([shade % 256]) * width) * height
    return png_of(width, height, zlib.compress(rows)) + str(shade).encode()


def png_of(width: int, height: int, content: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class World:
    """The real servers, as one namespace sees them."""

    endpoints: Any
    namespace: Namespace
    appender: KafkaAppender
    log: KafkaEventLog
    schemas: RegistrySchemas
    blobs: S3BlobStore

    def redis(self) -> Redis:
        return Redis.from_url(self.endpoints.redis_url)

    def app(self, **changes: Any) -> Any:
        publisher = FramePublisher(
            appender=changes.pop("appender", self.appender),
            blobs=changes.get("blobs", self.blobs),
            schemas=self.schemas,
            clock=system_clock,
            channel="http",
        )
        redis = changes.pop("redis", None) or self.redis()
        ports: dict[str, Any] = {
            "publisher": publisher,
            "views": RedisViewStore(redis, self.namespace),
            "log": self.log,
            "schemas": self.schemas,
            "blobs": self.blobs,
            "submissions": RedisSubmissions(redis, self.namespace),
            "devices": DEVICES.__contains__,
            "partitions": PARTITIONS,
            "limits": LIMITS,
        }
        return http_app(**{**ports, **changes})

    def records(self, topic: str, about: str) -> list[Record]:
        """Records of a topic whose correlation id is `about`."""
        found = []
        for partition in self.log.partitions(topic):
            bounds = self.log.bounds(topic, partition)
            records = self.log.read(topic, partition, bounds.earliest, bounds.end)
            found += [r for r in records if header(r.headers, "ce_correlationid") == about]
        return found

    def events(self, topic: str, about: str) -> list[Any]:
        return [decode(r.value, topic, self.schemas) for r in self.records(topic, about)]

    def in_redis(self, work: Callable[[Redis], Any]) -> Any:
        """Run something against Redis in a loop of its own."""

        async def run() -> Any:
            async with self.redis() as redis:
                return await work(redis)

        return asyncio.run(run())

    def save_view(self, view: str, partition: int, key: str, state: Any) -> None:
        """As the view worker does: state and position together."""

        async def work(redis: Redis) -> None:
            views = RedisViewStore(redis, self.namespace)
            position = (await views.load(view, partition, ())).position
            assert await views.save(
                view, partition, expected=position, position=position + 1, changes={key: canonical_json(state)}
            )

        self.in_redis(work)

    def append_result(self, device_id: str, sequence: int) -> ResultDerived:
        event = result(device_id, sequence)
        self.append_events([event])
        return event

    def append_events(self, events: list[ResultDerived]) -> None:
        """Results on vision.results, in this order, when the broker holds them."""
        asyncio.run(_append(self.appender, [self.outgoing(event) for event in events]))

    def outgoing(self, event: ResultDerived) -> Outgoing:
        envelope = envelope_of(event, source="test", time_us=1, correlation_id=event.frame.frame_id, causation_id="x")
        key = event.frame.device_id.encode()
        return Outgoing(topic=RESULTS, key=key, value=encode(event, self.schemas), headers=to_headers(envelope))


async def _append(appender: KafkaAppender, records: list[Outgoing]) -> None:
    for acknowledged in [await appender.enqueue(record) for record in records]:
        await asyncio.wrap_future(acknowledged)


def frame(device_id: str, sequence: int, session_id: str = "s") -> FrameRef:
    return FrameRef(
        frame_id=ids.frame_id(device_id, session_id, sequence),
        device_id=DeviceId(device_id),
        session_id=session_id,
        sequence=sequence,
        captured_at_us=1_000_000 + sequence,
        blob=BlobRef(sha256="0" * 64, size_bytes=1, media_type="image/png"),
        labels={},
    )


def result(device_id: str, sequence: int, outcome: str = "read") -> ResultDerived:
    return ResultDerived(
        event_id=EventId(str(uuid.uuid4())),
        source=SourcePosition(topic="vision.inferences", partition=0, offset=sequence, index=0),
        frame=frame(device_id, sequence),
        inference_id=EventId(str(uuid.uuid4())),
        pipeline="gate_reader",
        release="gate_reader_r1",
        outcome=outcome,
        readings=(),
        rules="test",
        detail="",
        derived_at_us=5,
    )


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The app on a free port of a real uvicorn; its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive()


def until(true: Callable[[], Any], deadline_s: float = 15.0) -> None:
    """Poll until something holds."""
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def world(stack: LocalStack) -> Iterator[World]:
    e, namespace = stack.endpoints, Namespace(f"t{uuid.uuid4().hex[:8]}")
    Topics(e.kafka_bootstrap, namespace, chain_partitions=PARTITIONS).ensure()
    schemas = RegistrySchemas(e.registry_url, namespace)
    schemas.register_all()
    blobs = S3BlobStore(e.s3_endpoint, access_key=e.s3_access_key, secret_key=e.s3_secret_key, bucket=namespace.bucket("frames"))
    blobs.make_bucket()
    appender, log = KafkaAppender(e.kafka_bootstrap, namespace), KafkaEventLog(e.kafka_bootstrap, namespace)
    yield World(endpoints=e, namespace=namespace, appender=appender, log=log, schemas=schemas, blobs=blobs)
    appender.close()
    log.close()


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[httpx.Client]:
    with served(world.app()) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


def send(client: httpx.Client, image: bytes, device_id: str = "gate-1", key: str | None = None, **fields: str) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    files = {"image": ("frame.png", image, "image/png")}
    return client.post("/analyze", data={"device_id": device_id, **fields}, files=files, headers=headers)


def assert_problem(answer: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    """An RFC 9457 document with all of its members."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document: dict[str, Any] = answer.json()
    assert document["reason"] == reason, document
    assert document["type"] == f"/problems/{reason}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"] == answer.url.path
    return document


# --- taking frames ---------------------------------------------------------------------------------------------------


def test_a_202_means_that_broker_and_blob_store_hold_the_frame(world: World, client: httpx.Client) -> None:
    """What was acknowledged is on vision.frames with every field that was sent, and its bytes are in the blob store."""
    image = png(shade=1)
    answer = send(
        client, image, captured_at="2026-11-22T03:47:00.5+01:00", passage_id="truck 7", labels=json.dumps({"lane": "2"})
    )
    assert answer.status_code == 202, answer.text
    task_id = answer.json()["task_id"]
    assert answer.json()["status"] == "submitted"
    assert answer.headers["location"] == f"/tasks/{task_id}"
    (event,) = world.events(FRAMES, task_id)
    assert isinstance(event, FrameCaptured)
    assert event.channel == "http"
    found = event.frame
    assert (found.frame_id, found.device_id, found.sequence) == (task_id, "gate-1", 0)
    assert found.session_id.startswith("http-")
    assert found.captured_at_us == 1795315620500000
    assert (found.passage_id, found.labels, found.blob.media_type) == ("truck 7", {"lane": "2"}, "image/png")
    assert world.blobs.get(found.blob) == image


def test_the_same_image_twice_is_one_blob_and_two_tasks(world: World, client: httpx.Client) -> None:
    """Without a key each request is a frame of its own, and equal bytes are kept once."""
    image = png(shade=2)
    tasks = {send(client, image).json()["task_id"] for _ in range(2)}
    assert len(tasks) == 2
    refs = {event.frame.blob.sha256 for task in tasks for event in world.events(FRAMES, task)}
    assert refs == {digest(image)}
    assert list(world.blobs.names()).count(digest(image)) == 1


def test_a_key_makes_it_one_task_and_one_record(world: World, client: httpx.Client) -> None:
    """Repeats with a key, one after the other, get the first task and add nothing to the log."""
    answers = [send(client, png(shade=3), key="one") for _ in range(3)]
    assert [a.status_code for a in answers] == [202] * 3
    (task_id,) = {a.json()["task_id"] for a in answers}
    assert len(world.records(FRAMES, task_id)) == 1
    assert [a.headers.get("idempotency-replayed") for a in answers] == [None, "true", "true"]
    other_device = send(client, png(shade=3), device_id="gate-2", key="one")
    assert other_device.json()["task_id"] != task_id


def test_requests_at_once_with_one_key_are_one_task(world: World, client: httpx.Client) -> None:
    """Requests that race each other with one key publish the same frame, with the same id and time."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: send(client, png(shade=4), key="race"), range(8)))
    (task_id,) = {a.json()["task_id"] for a in answers}
    frames = [event.frame for event in world.events(FRAMES, task_id)]
    assert frames
    assert all(found == frames[0] for found in frames)


def test_a_key_with_another_image_is_refused(world: World, client: httpx.Client) -> None:
    """One key cannot stand for two different submissions, be it the image or a field that differs."""
    task_id = send(client, png(shade=5), key="two").json()["task_id"]
    for answer in (send(client, png(shade=6), key="two"), send(client, png(shade=5), key="two", passage_id="p")):
        assert assert_problem(answer, 422, "idempotency_key_reused")["task_id"] == task_id
    assert len(world.records(FRAMES, task_id)) == 1


def test_a_crash_between_reserving_and_publishing_loses_nothing(world: World, client: httpx.Client) -> None:
    """A key that was reserved and never published is published by the next request with it, as the same frame."""
    image, fields = png(shade=7), {"device_id": "gate-1"}
    task_id = ids.frame_id("gate-1", session_of("gate-1", "crash"), 0)
    left = Reservation(task_id=task_id, fingerprint=fingerprint(image, fields), captured_at_us=77)
    world.in_redis(lambda redis: RedisSubmissions(redis, world.namespace).reserve("gate-1", "crash", left))
    assert world.records(FRAMES, task_id) == []
    answer = send(client, image, key="crash")
    assert answer.json()["task_id"] == task_id
    assert "idempotency-replayed" not in answer.headers
    (event,) = world.events(FRAMES, task_id)
    assert event.frame.captured_at_us == 77


def test_traceparent_travels_with_the_frame_and_a_broken_one_does_not(world: World, client: httpx.Client) -> None:
    """The record of a frame carries the W3C trace context of its request, when it is one."""
    for sent, expected in ((TRACEPARENT, TRACEPARENT), ("00-nonsense", "")):
        files = {"image": ("x", png(shade=8), "image/png")}
        answer = client.post("/analyze", data={"device_id": "gate-1"}, files=files, headers={"traceparent": sent})
        (record,) = world.records(FRAMES, answer.json()["task_id"])
        assert header(record.headers, "traceparent") == expected


# --- refusing frames -------------------------------------------------------------------------------------------------

BOMB = png_of(60_000, 60_000, zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
    ("image", "status", "reason"),
    [
        (b"this is text", 415, "not_an_image"),
        (b"", 415, "not_an_image"),
        (b"GIF89a" + bytes(30), 415, "unsupported_format"),
        (png()[:-14], 422, "truncated"),
        (BOMB, 422, "too_many_pixels"),
        (png() + bytes(LIMITS.image_bytes), 413, "too_large"),
    ],
    ids=["text", "empty", "gif", "truncated", "bomb", "large"],
)
def test_a_frame_refused_for_what_it_is_leaves_its_refusal(
    world: World, client: httpx.Client, image: bytes, status: int, reason: str
) -> None:
    """The client gets a problem document, and vision.frames a FrameRefused under the id that the document names."""
    document = assert_problem(send(client, image), status, reason)
    task_id = document["task_id"]
    (event,) = world.events(FRAMES, task_id)
    assert isinstance(event, FrameRefused)
    assert (event.reason, event.frame.device_id, event.frame.frame_id) == (reason, "gate-1", task_id)


def test_a_refusal_with_a_key_is_recorded_once(world: World, client: httpx.Client) -> None:
    """Repeating a refused submission gets the same answer and adds no second refusal to the log."""
    documents = [assert_problem(send(client, b"text", key="bad"), 415, "not_an_image") for _ in range(3)]
    (task_id,) = {d["task_id"] for d in documents}
    assert len(world.records(FRAMES, task_id)) == 1


def test_a_bad_time_of_a_known_device_is_refused_on_the_log(world: World, client: httpx.Client) -> None:
    """A device whose clock is broken leaves evidence: a FrameRefused that quotes what it said."""
    for text in ("yesterday", "2026-11-22T03:47:00", "2026-13-22T03:47:00Z", "1960-01-01T00:00:00Z", "2026-11-22"):
        document = assert_problem(send(client, png(), captured_at=text), 422, "bad_timestamp")
        (event,) = world.events(FRAMES, document["task_id"])
        assert event.reason == "bad_timestamp"
        assert text in event.detail


def ends_of(world: World) -> list[tuple[int, int]]:
    return [(p, world.log.bounds(t, p).end) for t in (FRAMES, ASSESSMENTS) for p in world.log.partitions(t)]


def test_requests_that_name_no_known_frame_change_nothing(world: World, client: httpx.Client) -> None:
    """An unknown device, missing or broken fields, and bodies that are no form are problems, and nothing is written."""
    before = ends_of(world)
    image = {"image": ("x", png(), "image/png")}
    assert_problem(send(client, png(), device_id="gate-99"), 422, "unknown_device")
    assert_problem(client.post("/analyze", data={"x": "y"}, files=image), 422, "missing_field")
    assert_problem(client.post("/analyze", files={"device_id": (None, "gate-1")}), 422, "missing_field")
    assert_problem(send(client, png(), labels="[1]"), 422, "bad_field")
    assert_problem(send(client, png(), labels="[" * 10_000), 422, "bad_field")
    assert_problem(send(client, png(), nonsense="1"), 422, "bad_field")
    assert_problem(send(client, png(), device_id="gate-1\x00"), 422, "bad_field")
    assert_problem(send(client, png(), key="a b"), 400, "bad_idempotency_key")
    assert_problem(client.post("/analyze", json={"device_id": "gate-1"}), 415, "not_multipart")
    form = {"content-type": "multipart/form-data; boundary=b"}
    assert_problem(client.post("/analyze", content=b"garbage", headers=form), 400, "bad_multipart")
    cut = b'--b\r\ncontent-disposition: form-data; name="device_id"\r\n\r\ngate-1'
    assert_problem(client.post("/analyze", content=cut, headers=form), 400, "bad_multipart")
    assert ends_of(world) == before


def test_errors_of_the_framework_are_problems_too(client: httpx.Client) -> None:
    """Unknown paths, wrong methods and invalid parameters are answered in the same form."""
    assert_problem(client.get("/nowhere"), 404, "not_found")
    wrong = client.get("/analyze")
    assert_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert_problem(client.get("/results/stream", params={"device_id": "x" * 200}), 422, "invalid_request")
    assert client.get("/problems/truncated").json()["status"] == 422


def test_an_endless_body_is_cut_at_the_limit(client: httpx.Client) -> None:
    """A body without a length is refused soon after the limit, and not read to its end."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\ncontent-disposition: form-data; name="device_id"\r\n\r\ngate-1\r\n'
        yield b'--b\r\ncontent-disposition: form-data; name="image"; filename="x"\r\n\r\n'
        while sent < 500_000_000:
            sent += 65536
            yield bytes(65536)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert_problem(client.post("/analyze", content=endless(), headers=headers), 413, "too_large")
    assert sent < 50_000_000


def test_a_declared_length_over_the_limit_is_refused_unread(client: httpx.Client) -> None:
    """A length header beyond the limit is enough: the answer comes before the image does."""
    head = (
        b"POST /analyze HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 999999999\r\n\r\n"
        b'--b\r\ncontent-disposition: form-data; name="device_id"\r\n\r\ngate-1\r\n'
        b'--b\r\ncontent-disposition: form-data; name="image"; filename="x"\r\n\r\n'
    )
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as line:
        line.sendall(head)
        assert b" 413 " in line.recv(4096).split(b"\r\n")[0]


# --- asking for tasks and devices ------------------------------------------------------------------------------------


def test_a_task_goes_from_submitted_to_done_by_what_the_views_say(world: World, client: httpx.Client) -> None:
    """Right after the 202 a task is submitted and never unknown; then it is what the views hold, in any partition."""
    task_id = send(client, png(shade=20), device_id="gate-2").json()["task_id"]

    def status() -> dict[str, Any]:
        answer = client.get(f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    assert status()["status"] == "submitted"
    assert status()["device_id"] == "gate-2"
    captured = world.events(FRAMES, task_id)[0].frame
    accepted = FrameOutcome(frame=captured, status="accepted", width_px=4, height_px=3)
    world.save_view("frame_outcomes", 3, task_id, accepted)
    assert status()["status"] == "accepted"
    assert status()["frame"]["frame_id"] == task_id
    for outcome_, expected in (("skipped", "skipped"), ("failed", "failed"), ("nothing_read", "done"), ("read", "done")):
        derived = replace(result("gate-2", 0, outcome_), frame=captured)
        world.save_view("results_by_frame", 3, task_id, FrameResult(result=derived, counted=1))
        assert status()["status"] == expected
    assert status()["result"] == to_plain(derived)


def test_a_rejected_task_says_why(world: World, client: httpx.Client) -> None:
    """A task whose frame was rejected has the reasons of the view."""
    ref = frame("gate-1", 900)
    state = FrameOutcome(frame=ref, status="rejected", reasons=("too_dark",), detail="mean 3")
    world.save_view("frame_outcomes", 0, ref.frame_id, state)
    answer = client.get(f"/tasks/{ref.frame_id}").json()
    assert (answer["status"], answer["reasons"], answer["detail"]) == ("rejected", ["too_dark"], "mean 3")


def test_an_unknown_task_is_a_404(client: httpx.Client) -> None:
    """Ids that nobody gave out, and texts that are no ids, are unknown."""
    for task_id in (str(uuid.uuid4()), "nonsense", "x" * 500):
        assert_problem(client.get(f"/tasks/{task_id}"), 404, "unknown_task")


def test_a_device_has_its_views(world: World, client: httpx.Client) -> None:
    """A device answers with its two views, nulls before its first frame, and is unknown when nobody knows it."""
    assert client.get("/devices/gate-3").json() == {"device_id": "gate-3", "frames": None, "results": None}
    world.save_view("device_frames", 1, "gate-3", {"accepted": 3})
    world.save_view("device_results", 1, "gate-3", {"read": 2})
    assert client.get("/devices/gate-3").json() == {"device_id": "gate-3", "frames": {"accepted": 3}, "results": {"read": 2}}
    assert_problem(client.get("/devices/nobody"), 404, "device_not_found")


# --- following results -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """One server-sent event."""

    event: str
    id: str
    content: Any


def sse(lines: Iterator[str]) -> Iterator[Sent | None]:
    """Events of a stream; None for each comment."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield None
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Sent(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}


@contextmanager
def following(client: httpx.Client, last: str | None = None, **params: str) -> Iterator[Iterator[Sent | None]]:
    """An open stream, from after its `open` event."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with client.stream("GET", "/results/stream", params=params, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        events = sse(answer.iter_lines())
        # A heartbeat may come before it on a slow machine.
        assert take(events, 1)[0].event == "open"
        yield events


def take(events: Iterator[Sent | None], count: int) -> list[Sent]:
    found: list[Sent] = []
    while len(found) < count:
        if (event := next(events)) is not None:
            found.append(event)
    return found


def frame_ids(events: list[Sent]) -> list[str]:
    return [e.content["content"]["frame"]["frame_id"] for e in events]


def test_results_arrive_as_they_are_written_for_the_device_asked_for(world: World, client: httpx.Client) -> None:
    """A stream gives each new result of its device with all its fields, and nothing from before it began."""
    world.append_result("gate-1", 1)
    with following(client, device_id="gate-1") as events:
        wanted = [world.append_result("gate-1", 2), world.append_result("gate-1", 3)]
        world.append_result("gate-2", 1)
        last = world.append_result("gate-1", 4)
        found = take(events, 3)
    assert [e.content["content"] for e in found] == [to_plain(e) for e in (*wanted, last)]
    assert {e.event for e in found} == {"ResultDerived"}


def test_a_quiet_stream_has_heartbeats(client: httpx.Client) -> None:
    """Comments keep a quiet line alive."""
    with following(client, device_id="gate-2") as events:
        assert next(events) is None


def test_a_stream_resumes_after_the_last_event_seen_without_loss_or_repeat(world: World, client: httpx.Client) -> None:
    """With Last-Event-ID a client gets exactly what it had not seen, over all partitions."""
    with following(client) as events:
        wrote = [world.append_result(f"gate-{1 + n % 3}", 100 + n) for n in range(12)]
        first = take(events, 5)
    wrote += [world.append_result(f"gate-{1 + n % 3}", 200 + n) for n in range(30)]
    with following(client, last=first[-1].id) as events:
        second = take(events, 37)
        live = world.append_result("gate-1", 300)
        third = take(events, 1)
    seen = frame_ids(first) + frame_ids(second) + frame_ids(third)
    assert sorted(seen) == sorted(e.frame.frame_id for e in (*wrote, live))


def test_a_stream_begins_at_a_time(world: World, client: httpx.Client) -> None:
    """`from` begins with the first result that the broker took at or after that time."""
    early = world.append_result("gate-1", 400)
    time.sleep(0.005)  # so that the broker's clock, in ms, tells the two apart
    late = world.append_result("gate-1", 401)
    at = {r.offset: r.appended_at_ms for r in world.records(RESULTS, late.frame.frame_id)}
    (at_ms,) = at.values()
    text = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at_ms / 1000))}.{at_ms % 1000:03}Z"
    with following(client, device_id="gate-1", **{"from": text}) as events:
        found = frame_ids(take(events, 1))
    assert found == [late.frame.frame_id]
    assert early.frame.frame_id not in found


def test_a_client_that_reads_slowly_still_gets_everything_in_order(world: World, client: httpx.Client) -> None:
    """A client whose buffer of eight overflows is sent back to the log, and misses nothing."""
    # More than the network's own buffers take, so that the server has to wait for the client.
    many = [replace(result("gate-1", 1000 + n), detail="x" * 6000) for n in range(3000)]
    with following(client, device_id="gate-1") as events:
        world.append_events(many)
        found = take(events, len(many))
    assert frame_ids(found) == [e.frame.frame_id for e in many]
    behind = [line for line in client.get("/metrics").text.splitlines() if line.startswith("hindsight_http_stream_behind_total")]
    assert float(behind[0].split()[1]) > 0


def streams_open(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("hindsight_http_streams "))


def test_many_clients_share_one_thread_and_leave_nothing_behind(world: World, client: httpx.Client) -> None:
    """Twenty clients get the same results from one following thread, which ends when the last has gone."""

    def follow(_: int) -> list[str]:
        with following(client, device_id="gate-3") as events:
            joined.wait()
            return frame_ids(take(events, 5))

    def feeds() -> int:
        return sum(thread.name == "result-feed" for thread in threading.enumerate())

    joined = threading.Barrier(21, timeout=30)
    with ThreadPoolExecutor(20) as threads:
        answers = [threads.submit(follow, n) for n in range(20)]
        joined.wait()
        assert feeds() == 1
        wrote = [world.append_result("gate-3", n).frame.frame_id for n in range(5)]
        assert all(a.result(30) == wrote for a in answers)
    until(lambda: streams_open(client) == 0 and feeds() == 0)


def test_a_stopping_server_ends_its_streams(world: World) -> None:
    """A gateway that is told to stop ends its streams at once, and does not wait for its clients to go."""
    with httpx.Client(timeout=30) as client, served(world.app()) as url:
        opened = client.send(client.build_request("GET", f"{url}/results/stream"), stream=True)
        assert opened.status_code == 200
        until(lambda: any(thread.name == "result-feed" for thread in threading.enumerate()))
    assert not any(thread.name == "result-feed" for thread in threading.enumerate())
    opened.close()


def test_a_record_that_cannot_be_read_is_passed_over(world: World, client: httpx.Client) -> None:
    """Garbage on the topic does not end the streams."""
    with following(client, device_id="gate-1") as events:
        asyncio.run(_append(world.appender, [Outgoing(topic=RESULTS, key=b"gate-1", value=b"\x01garbage", headers=())]))
        wrote = world.append_result("gate-1", 5000)
        assert frame_ids(take(events, 1)) == [wrote.frame.frame_id]


def test_positions_that_nobody_gave_out_are_refused(client: httpx.Client) -> None:
    """A Last-Event-ID that is no position, or lies beyond the log, is a problem and not a silent restart."""
    for text in ("nonsense", "0:-1", "0:999999999", "77:0"):
        assert_problem(client.get("/results/stream", headers={"Last-Event-ID": text}), 400, "bad_position")
    assert_problem(client.get("/results/stream", params={"from": "noon"}), 422, "bad_timestamp")


# --- running it ------------------------------------------------------------------------------------------------------


def test_ready_asks_every_server(client: httpx.Client) -> None:
    """Live and ready answer 200 when all servers are there, and say what was asked."""
    assert client.get("/v2/health/live").json() == {"live": True}
    answer = client.get("/v2/health/ready")
    assert answer.status_code == 200
    assert set(answer.json()["checks"]) == {"kafka", "blob_store", "redis"}


def test_the_openapi_document_describes_every_answer(client: httpx.Client) -> None:
    """Every route has its errors as problem documents with examples, and every reference leads somewhere."""
    document = client.get("/openapi.json").json()
    assert {"/analyze", "/tasks/{task_id}", "/results/stream", "/devices/{device_id}", "/v2/health/ready"} <= set(
        document["paths"]
    )
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    assert {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]} <= set(schemas)
    analyze = document["paths"]["/analyze"]["post"]
    assert {"202", "400", "408", "413", "415", "422", "503"} <= set(analyze["responses"])
    assert all("application/problem+json" in answer["content"] for code, answer in analyze["responses"].items() if code != "202")
    assert "multipart/form-data" in analyze["requestBody"]["content"]


@contextmanager
def nobody() -> Iterator[str]:
    """An address where connections are taken and never answered, as long as the context lasts."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(64)
        yield f"127.0.0.1:{deaf.getsockname()[1]}"


def test_a_broker_that_is_away_is_a_503_in_time_and_never_fills_memory(world: World) -> None:
    """Frames wait for the broker only until the deadline; those still waiting take up the places for uploads."""
    limits = replace(LIMITS, publish_s=0.5, ready_s=0.5, view_s=1.0, uploads=3)
    with nobody() as address:
        appender, log = KafkaAppender(address, world.namespace), KafkaEventLog(address, world.namespace)
        with served(world.app(appender=appender, log=log, limits=limits)) as url, httpx.Client(base_url=url) as client:
            start = time.monotonic()
            answers = [send(client, png(shade=30 + n), key=f"away-{n}") for n in range(4)]
            assert time.monotonic() - start < 5
            for answer, reason in zip(answers, ["unavailable", "unavailable", "unavailable", "busy"], strict=True):
                assert_problem(answer, 503, reason)
                assert int(answer.headers["retry-after"]) > 0
            checks = assert_problem(client.get("/v2/health/ready", timeout=5), 503, "unavailable")["checks"]
            assert {name: check["ok"] for name, check in checks.items()} == {"kafka": False, "blob_store": True, "redis": True}
            assert_problem(client.get("/results/stream", timeout=5), 503, "unavailable")
    appender.close(0)
    with served(world.app()) as url, httpx.Client(base_url=url, timeout=30) as client:
        repeated = send(client, png(shade=30), key="away-0").json()
    assert len(world.records(FRAMES, repeated["task_id"])) == 1


def test_a_blob_store_that_is_away_is_a_503_and_nothing_is_on_the_log(world: World) -> None:
    """Without its bytes a frame is not announced."""
    before = ends_of(world)
    limits = replace(LIMITS, publish_s=0.5, ready_s=0.5)
    deaf = ExitStack()
    blobs = S3BlobStore(deaf.enter_context(nobody()), access_key="a", secret_key="b" * 8, bucket="none")
    # The address goes before the server: the client library would wait there for longer than stopping may take.
    with served(world.app(blobs=blobs, limits=limits)) as url, deaf, httpx.Client(base_url=url) as client:
        assert_problem(send(client, png(shade=40)), 503, "unavailable")
        assert client.get("/v2/health/ready", timeout=5).json()["checks"]["blob_store"]["ok"] is False
    assert ends_of(world) == before


def test_a_redis_that_is_away_stops_keys_and_tasks_but_not_frames(world: World) -> None:
    """Frames without a key need no Redis: they are acknowledged, since the log holds them; the rest is a 503 in time."""
    limits = replace(LIMITS, view_s=0.5)
    with nobody() as address:
        redis = Redis.from_url(f"redis://{address}/0")
        with served(world.app(redis=redis, limits=limits)) as url, httpx.Client(base_url=url, timeout=10) as client:
            answer = send(client, png(shade=50))
            assert answer.status_code == 202
            assert len(world.records(FRAMES, answer.json()["task_id"])) == 1
            assert_problem(send(client, png(shade=51), key="k"), 503, "unavailable")
            assert_problem(client.get(f"/tasks/{answer.json()['task_id']}"), 503, "unavailable")
