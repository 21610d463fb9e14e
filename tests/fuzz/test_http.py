"""The HTTP gateway, served by uvicorn, against requests made from its own OpenAPI document and against broken ones."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
import schemathesis
import structlog
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from schemas.codec import FixedSchemas
from schemas.types import DeviceId
from streams.http_gateway import HttpLimits, http_app
from streams.http_gateway.problems import MEDIA_TYPE, REASONS
from streams.idempotency import MemorySubmissions
from streams.memory import MemoryBlobStore, MemoryLog, MemoryViewStore
from streams.publishing import FramePublisher
from streams.records import system_clock

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
ANSWERED_AT_ONCE = (
    "POST /analyze", "GET /tasks/{task_id}", "GET /devices/{device_id}", "GET /problems/{reason}", "GET /metrics",
    "GET /v2/health/live", "GET /v2/health/ready",
)  # fmt: skip
POST = b"POST /analyze HTTP/1.1\r\nHost: a\r\n"
REQUEST_LINES = (
    POST + b"Content-Length: 5\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /tasks/%ff%00%0a HTTP/1.1\r\n\r\n",
    b"GET /results/stream?from=%f0%9f HTTP/1.0\r\n\r\n",
    b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
    b"BREW /analyze HTTP/1.1\r\n\r\n",
)
DEVICES = {DeviceId("gate-1")}
_out = io.BytesIO()
Image.new("RGB", (16, 16)).save(_out, "PNG")
PNG = _out.getvalue()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The real gateway over ports in memory, on a real server."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    log, blobs, schemas = MemoryLog(system_clock), MemoryBlobStore(), FixedSchemas()
    app = http_app(
        publisher=FramePublisher(appender=log, blobs=blobs, schemas=schemas, clock=system_clock, channel="http"),
        views=MemoryViewStore(),
        log=log,
        schemas=schemas,
        blobs=blobs,
        submissions=MemorySubmissions(),
        devices=DEVICES.__contains__,
        partitions=4,
        limits=HttpLimits(image_bytes=200_000, image_pixels=1_000_000, read_s=1.0, streams=4, heartbeat_s=0.2),
    )
    with served(app) as at:
        yield at
    structlog.configure(**before)


@contextmanager
def served(app: Any) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        end = time.monotonic() + 15
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(15)


@pytest.fixture(scope="module")
def document(address: str) -> Any:
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


def operations(document: Any) -> dict[str, Any]:
    return {f"{found.ok().method.upper()} {found.ok().path}": found.ok() for found in document.get_all_operations()}


def test_the_document_names_every_page(document: Any) -> None:
    """OpenAPI lists every page that the app serves, the document's own pages aside."""
    assert set(operations(document)) == {*ANSWERED_AT_ONCE, "GET /results/stream"}


@pytest.mark.parametrize("name", ANSWERED_AT_ONCE)
def test_every_answer_is_as_documented(document: Any, name: str) -> None:
    """Whatever is asked, the answer is no error of the server, and its status, type, headers and body are documented."""
    operation = operations(document)[name]

    @given(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def holds(case: Any) -> None:
        case.call_and_validate(checks=list(CHECKS), timeout=10)

    holds()


def test_a_form_that_breaks_the_document_is_answered_as_documented(document: Any) -> None:
    """Forms without, with wrong and with unknown fields and headers: refused by a documented problem."""
    operation = operations(document)["POST /analyze"]

    @given(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def holds(case: Any) -> None:
        case.call_and_validate(checks=list(CHECKS), timeout=10)

    holds()


_TEXTS = st.one_of(
    st.sampled_from(
        ["", "gate-1", "gate-2", "2026-11-22T03:47:00Z", "9999-99-99T99:99:99Z", "0000-01-01T00:00:00+23:59", '{"a":"b"}']
    ),
    st.sampled_from(['{"a":' * 3000, '{"a":"\\ud800"}', '["a"]', '{"a":1e999}', "\0", "a/b", "..", "\u202egnp", "x" * 20_000]),
    st.text(max_size=20),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
_NAMES = st.sampled_from([b"device_id", b"captured_at", b"passage_id", b"labels", b"image", b"", b"\xff", b"a" * 9000])
_CONTENT = st.one_of(st.just(PNG), st.just(PNG[:40]), st.binary(max_size=200), _TEXTS)
_BOUNDARIES = st.sampled_from([b"x", b"x" * 70, b"x" * 300, b"--", b"a b", b"\xe4"])
_HEADS = st.dictionaries(
    st.sampled_from(["Idempotency-Key", "traceparent", "Content-Type", "Last-Event-ID", "Accept", "Host", "X-Forwarded-For"]),
    st.one_of(st.sampled_from(["", "k", "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "0:1,1:2", "0:999999999999999999999", "é"]),
              st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=300)),
    max_size=3,
)  # fmt: skip


@st.composite
def forms(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """A form as a broken client may write it; most have a known device and an image."""
    boundary = draw(_BOUNDARIES)
    parts = [(b"device_id", b"gate-1")] if draw(st.booleans()) else []
    parts += draw(st.lists(st.tuples(_NAMES, _CONTENT), max_size=4))
    parts += [(b"image", draw(_CONTENT))] if draw(st.booleans()) else []
    lines = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (boundary, name, value) for name, value in parts
    ]
    end = draw(st.sampled_from([b"--%s--\r\n" % boundary, b"--%s--" % boundary, b"--%s" % boundary, b""]))
    kind = "multipart/form-data; boundary=" + boundary.decode("latin-1")
    return b"".join(lines) + end, {"Content-Type": kind, **draw(_HEADS)}


def form_with(**fields: bytes) -> tuple[bytes, dict[str, str]]:
    """A whole form of gate-1 with these fields."""
    parts = {"device_id": b"gate-1", **fields, "image": PNG}
    lines = [b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), v) for n, v in parts.items()]
    return b"".join(lines) + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


@example(form=form_with(labels=b'{"a":"\\ud800"}'))
@example(form=form_with(labels=b'{"a":' * 3000))
@example(form=form_with(captured_at=b"0001-01-01T00:00:00+23:59"))
@example(form=form_with(passage_id=b"\xed\xa0\x80"))
@given(form=forms())
def test_forms_of_broken_clients_are_answered_as_documented(
    document: Any, address: str, form: tuple[bytes, dict[str, str]]
) -> None:
    """Fields twice, nested JSON without end, texts that are none, boundaries that are none, forms that stop: no error of ours."""
    body, heads = form
    heads = {name: value.encode("latin-1", "replace") for name, value in heads.items()}
    answer = requests.post(f"{address}/analyze", data=body, headers=heads, timeout=10)
    if b"Invalid HTTP request" not in answer.content:  # what HTTP itself does not allow never reaches the gateway
        hold(document, "POST /analyze", answer)


@given(device=st.one_of(st.none(), _TEXTS), since=st.one_of(st.none(), _TEXTS), seen=st.one_of(st.none(), _HEADS))
def test_a_stream_is_opened_or_refused_as_documented(
    document: Any, address: str, device: bytes | None, since: bytes | None, seen: dict[str, str] | None
) -> None:
    """Whatever position, time and device a client names."""
    asked = {name: value[:2000] for name, value in (("device_id", device), ("from", since)) if value is not None}
    heads = {name: value.encode("latin-1", "replace") for name, value in (seen or {}).items()}
    with requests.get(f"{address}/results/stream", params=asked, headers=heads, stream=True, timeout=10) as answer:
        if answer.status_code != 200:
            hold(document, "GET /results/stream", answer)


@given(st.one_of(st.binary(max_size=300), st.tuples(st.sampled_from(REQUEST_LINES), st.binary(max_size=200)).map(b"".join)))
def test_bytes_that_are_no_request_harm_nobody(address: str, sent: bytes) -> None:
    """Half requests, wrong lengths and noise end with no error of ours, and the next client is answered."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(sent)
        line.shutdown(socket.SHUT_WR)
        told = b""
        while part := line.recv(65536):
            told += part
    assert not told.startswith(b"HTTP/1.1 5")
    assert requests.get(f"{address}/v2/health/live", timeout=10).json() == {"live": True}


def hold(document: Any, name: str, answer: requests.Response) -> None:
    """The answer is one that the document describes, and a refusal names a reason that has a page."""
    operation = operations(document)[name]
    assert answer.status_code < 500, answer.text
    assert str(answer.status_code) in operation.definition.raw["responses"], answer.text
    operation.validate_response(answer)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert answer.json()["reason"] in REASONS
