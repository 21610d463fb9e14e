"""The gRPC gateway, a real server over ports in memory, against messages, streams and metadata that no good client sends."""

import asyncio
import contextlib
import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import grpc
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.catalogue import ASSESSMENTS, FRAMES
from schemas.codec import FixedSchemas, decode
from schemas.events import FrameCaptured
from streams.grpc_gateway import FrameGateway, GatewayLimits, serve
from streams.grpc_gateway.generated.frames_pb2 import DroppedFrames, Frame, FrameAck
from streams.grpc_gateway.generated.frames_pb2_grpc import FrameServiceStub
from streams.memory import MemoryBlobStore, MemoryLog
from streams.publishing import FramePublisher
from streams.records import system_clock
from tests.fuzz import corpus

LIMITS = GatewayLimits(
    image_bytes_max=20_000,
    message_bytes_max=40_000,
    image_pixels_max=10_000,
    idle_s=5.0,
    sessions_max=64,
    sequences_remembered=16,
)
METHOD = "/hindsight.v1.FrameService/StreamFramesAcked"
NOW_US = 1_790_000_000_000_000
_out = io.BytesIO()
Image.new("RGB", (16, 16)).save(_out, "PNG")
PNG = _out.getvalue()
IMAGES = [n.content for n in corpus.no_images() if len(n.content) < 30_000] + [n.content for n in corpus.cut()][::9] + [PNG]

TEXTS = st.one_of(
    st.sampled_from(
        ["", "gate-1", "s1", "a/b", "..", "\0", "x" * 128, "x" * 129, "é" * 60, "00-" + "1" * 32 + "-" + "2" * 16 + "-01"]
    ),
    st.text(max_size=30),
)
NUMBERS = st.one_of(st.integers(0, 5), st.sampled_from([2**62, 2**62 + 1, 2**63, 2**64 - 1]))
TIMES = st.one_of(st.just(NOW_US), st.sampled_from([0, -1, -(2**63), 2**63 - 1, NOW_US * 1000]))


@st.composite
def messages(draw: st.DrawFn) -> Frame:
    """A message with nothing certain about it."""
    likely: Callable[[str], st.SearchStrategy[str]] = lambda text: st.one_of(st.just(text), st.just(text), TEXTS)  # noqa: E731
    message = Frame(
        device_id=draw(likely("gate-1")), session_id=draw(likely("s1")), sequence=draw(NUMBERS), captured_at_us=draw(TIMES)
    )
    message.media_type, message.passage_id, message.traceparent = draw(TEXTS), draw(TEXTS), draw(TEXTS)
    message.labels.update(draw(st.dictionaries(TEXTS, TEXTS, max_size=40)))
    match draw(st.sampled_from(["image", "image", "dropped", "both", "none"])):
        case "image":
            message.image = draw(st.sampled_from(IMAGES))
        case "dropped":
            numbers = {name: draw(NUMBERS) for name in ("first_sequence", "last_sequence", "frames_count")}
            message.dropped.CopyFrom(DroppedFrames(**numbers, reason=draw(st.one_of(st.just("spool_full"), TEXTS))))
        case "both":
            message.dropped.CopyFrom(DroppedFrames(first_sequence=1, last_sequence=1, frames_count=1, reason="x"))
            message.image = PNG
    return message


class Served:
    """The real gateway in a thread of its own, and its log."""

    def __init__(self) -> None:
        self.log, schemas = MemoryLog(system_clock), FixedSchemas()
        self._publisher = FramePublisher(
            appender=self.log, blobs=MemoryBlobStore(), schemas=schemas, clock=system_clock, channel="grpc"
        )
        self._port: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        self.address = f"127.0.0.1:{self._port.result(20)}"
        self.runs = 0

    async def _serve(self) -> None:
        gateway = FrameGateway(self._publisher, LIMITS)
        await serve(gateway, address="127.0.0.1:0", stop=self._stop, drain_s=1, started=self._port.set_result)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def events(self) -> list[Any]:
        """All that is on the log, decoded."""
        found = []
        for topic in (FRAMES, ASSESSMENTS):
            for partition in self.log.partitions(topic):
                records = self.log.read(topic, partition, 0, self.log.bounds(topic, partition).end)
                found += [decode(record.value, topic, FixedSchemas()) for record in records]
        return found

    def take_a_good_frame(self, line: grpc.Channel) -> None:
        """It still serves."""
        self.runs += 1
        good = Frame(device_id="good", session_id="s", sequence=self.runs, captured_at_us=NOW_US, image=PNG)
        (ack,) = FrameServiceStub(line).StreamFramesAcked(iter([good]), timeout=10)
        assert ack.status == FrameAck.ACCEPTED


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    running = Served()
    yield running
    running.close()
    structlog.configure(**before)


@pytest.fixture(scope="module")
def line(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address, options=[("grpc.max_metadata_size", 1 << 20)]) as channel:
        yield channel


@given(st.lists(messages(), min_size=1, max_size=12))
def test_each_message_is_answered_and_what_is_acknowledged_is_on_the_log(
    served: Served, line: grpc.Channel, sent: list[Frame]
) -> None:
    """One answer a message, in order, whatever it holds: what is accepted lies on the log, once, and what is refused says why."""
    served.runs += 1
    for message in sent:
        message.session_id = message.session_id.replace("s1", f"s{served.runs}")
    before = Counter(keys_of(served.events()))
    acks = list(FrameServiceStub(line).StreamFramesAcked(iter(sent), timeout=20))
    assert [(a.device_id, a.session_id, a.sequence) for a in acks] == [(m.device_id, m.session_id, m.sequence) for m in sent]
    assert all(a.reason and a.detail for a in acks if a.status == FrameAck.REJECTED)
    accepted = [
        (m.device_id, m.session_id, m.sequence)
        for m, a in zip(sent, acks, strict=True)
        if a.status == FrameAck.ACCEPTED and m.WhichOneof("payload") == "image"
    ]
    assert Counter(keys_of(served.events())) - before == Counter(accepted)
    served.take_a_good_frame(line)


def keys_of(found: list[Any]) -> list[tuple[str, str, int]]:
    return [(e.frame.device_id, e.frame.session_id, e.frame.sequence) for e in found if isinstance(e, FrameCaptured)]


_CUT = messages().map(lambda message: message.SerializeToString()[:-1])
_NOISE = st.lists(st.one_of(st.binary(max_size=200), _CUT, st.just(bytes(60_000))), max_size=4)


@given(_NOISE)
def test_bytes_that_are_no_message_end_their_stream_only(served: Served, line: grpc.Channel, sent: list[bytes]) -> None:
    """Noise, cut messages and messages over the limit end the stream with a code; the next client is served."""
    with contextlib.suppress(grpc.RpcError):
        for _ in line.stream_stream(METHOD)(iter(sent), timeout=10):
            pass
    served.take_a_good_frame(line)


@given(st.lists(messages(), max_size=6), st.integers(0, 6), st.booleans())
def test_a_stream_left_in_the_middle_leaves_nothing_behind(
    served: Served, line: grpc.Channel, sent: list[Frame], read: int, acked: bool
) -> None:
    """A client that goes away before, between or after the answers keeps no place and no window; the next client is served."""
    going = threading.Event()

    def half() -> Iterator[Frame]:
        yield from sent
        going.wait(10)

    stub = FrameServiceStub(line)
    call = stub.StreamFramesAcked(half(), timeout=20) if acked else stub.StreamFrames.future(half(), timeout=20)
    if acked:
        for _, _ in zip(range(min(read, len(sent))), call, strict=False):
            pass
    call.cancel()
    going.set()
    served.take_a_good_frame(line)


_KEYS = st.sampled_from(
    ["traceparent", "hindsight-max-image-bytes", "x-a", "grpc-trace-bin", "user-agent", "authorization", "te"]
)
_VALUES = st.one_of(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60), st.just("a" * 20_000))


@given(st.lists(st.tuples(_KEYS, _VALUES), max_size=8))
def test_metadata_of_any_kind_and_size_harms_nobody(served: Served, line: grpc.Channel, sent: list[tuple[str, str]]) -> None:
    """Known keys with wrong values, keys of others, and more than a server takes: served or refused by a code."""
    metadata = [(key, value.encode() if key.endswith("-bin") else value) for key, value in sent]
    served.runs += 1
    frame = Frame(device_id="good", session_id="m", sequence=served.runs, captured_at_us=NOW_US, image=PNG)
    try:
        (ack,) = FrameServiceStub(line).StreamFramesAcked(iter([frame]), timeout=10, metadata=metadata)
    except grpc.RpcError as error:
        code, detail = error.code(), error.details()
    else:
        code, detail = grpc.StatusCode.OK, ""
        assert ack.status == FrameAck.ACCEPTED
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED) or "metadata" in detail.lower()
    served.take_a_good_frame(line)
