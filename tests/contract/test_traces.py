"""Traces of real processes, received by a real OTLP endpoint."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import httpx2 as httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from streams.edge import Capture, EdgeClient, Spool
from streams.names import Namespace
from topology.stack.local import LocalStack
from topology.stack.probes import http_answers

_DEADLINE_S = 60.0
_GRPC, _HTTP = ("hindsight-gateway", "hindsight.grpc_gateway"), ("hindsight-http", "hindsight.http_gateway")
_BEHIND_THE_DOOR = {
    ("hindsight-worker", "hindsight.assess"),
    ("hindsight-worker", "hindsight.infer"),
    ("hindsight-worker", "hindsight.derive"),
    ("hindsight-worker", "hindsight.results_by_frame"),
    ("hindsight-worker", "viewstore.save"),
}
_CLIENTS_TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")


class Collector:
    """An OTLP receiver: spans by trace id, as (service, name)."""

    def __init__(self) -> None:
        self.spans: dict[bytes, set[tuple[str, str]]] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.setdefault(span.trace_id, set()).add((service, span.name))

    def whole(self, door: tuple[str, str]) -> set[bytes]:
        """Traces that tell of a frame's whole way from this door."""
        return {trace for trace, spans in list(self.spans.items()) if {door, *_BEHIND_THE_DOOR} <= spans}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@contextmanager
def _process(arguments: list[str], environment: dict[str, str], ready_url: str, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "topology.cli", *arguments], env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                http_answers(url=ready_url)
                break
            except (OSError, ValueError):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_one_frame_leaves_one_trace_from_its_door_to_the_views(
    stack: LocalStack, namespace: Namespace, collector: Collector, tmp_path: Path
) -> None:
    """A frame's way through its door, processors and view store is one trace, told to the OTLP endpoint that is set.

    It begins at the door, gRPC's or HTTP's, or goes on from the client's own.
    """
    gateway_port, gateway_metrics, worker_metrics, http_port = _free_ports(4)
    environment = {
        **os.environ,
        "HINDSIGHT_HOME": str(stack.layout.home),
        "HINDSIGHT_NAMESPACE": namespace.prefix,
        "HINDSIGHT_TELEMETRY__OTLP_ENDPOINT": collector.url,
        "HINDSIGHT_GATEWAY__PORT": str(gateway_port),
        "HINDSIGHT_GATEWAY__METRICS_PORT": str(gateway_metrics),
        "HINDSIGHT_HTTP__PORT": str(http_port),
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    worker = ["worker", "--metrics-port", str(worker_metrics)]
    with ExitStack() as running:
        for arguments, port in ((worker, worker_metrics), (["gateway"], gateway_metrics), (["http"], http_port)):
            log = tmp_path / f"{arguments[0]}.log"
            ready = "v2/health/ready" if port == http_port else "health/ready"
            running.enter_context(_process(arguments, environment, f"http://127.0.0.1:{port}/{ready}", log))
        asyncio.run(_send_one(f"127.0.0.1:{gateway_port}", tmp_path / "spool"))
        _post_one(f"http://127.0.0.1:{http_port}", {})
        _post_one(f"http://127.0.0.1:{http_port}", {"traceparent": f"00-{_CLIENTS_TRACE.hex()}-00f067aa0ba902b7-01"})
        deadline = time.monotonic() + _DEADLINE_S
        while not (collector.whole(_GRPC) and collector.whole(_HTTP) >= {_CLIENTS_TRACE} and len(collector.whole(_HTTP)) == 2):
            assert time.monotonic() < deadline, collector.spans
            time.sleep(0.1)


def _post_one(url: str, headers: dict[str, str]) -> None:
    image = cv2.imencode(".jpg", np.full((120, 160, 3), 120, np.uint8))[1].tobytes()
    answer = httpx.post(f"{url}/analyze", data={"device_id": "gate-1"}, files={"image": image}, headers=headers, timeout=30)
    assert answer.status_code == 202, answer.text


async def _send_one(address: str, folder: Path) -> None:
    image = cv2.imencode(".jpg", np.full((120, 160, 3), 90, np.uint8))[1].tobytes()
    stop = asyncio.Event()
    with Spool(folder, device_id="gate-1", limit_bytes=10_000_000) as spool:
        client = EdgeClient(address, spool)
        sending = asyncio.create_task(client.run(stop))
        await client.offer(Capture(image=image, captured_at_us=time.time_ns() // 1000))
        await asyncio.wait_for(client.drained(), _DEADLINE_S)
        stop.set()
        await sending
