"""Runs the gateway: port, health, reflection, and a drain that ends within a bounded time."""

import asyncio
from collections.abc import Callable

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from schemas.errors import ConfigurationError
from streams.grpc_gateway.generated import frames_pb2, frames_pb2_grpc
from streams.grpc_gateway.service import FrameGateway

SERVICE = frames_pb2.DESCRIPTOR.services_by_name["FrameService"].full_name
_ALL = ""
_log = structlog.get_logger(__name__)


async def serve(
    gateway: FrameGateway,
    *,
    address: str,
    stop: asyncio.Event,
    drain_s: float = 20.0,
    credentials: grpc.ServerCredentials | None = None,
    started: Callable[[int], None] | None = None,
) -> None:
    """Serve until `stop` is set, then drain: take no more, answer what was read, and end within `drain_s` seconds.

    Args:
        address: host:port; port 0 takes a free one.
        credentials: TLS; None serves plain text.
        started: Called with the port once the server is up.
    Raises:
        ConfigurationError: the address cannot be bound.
    """
    server = grpc.aio.server(options=_options(gateway))
    health_servicer = health.aio.HealthServicer()
    frames_pb2_grpc.add_FrameServiceServicer_to_server(gateway, server)  # type: ignore[no-untyped-call]  # generated
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = _bind(server, address, credentials)
    await server.start()
    for name in (_ALL, SERVICE):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    _log.info("gRPC gateway is up", port=port)
    if started is not None:
        started(port)
    try:
        await stop.wait()
        _log.info("gRPC gateway drains", seconds_max=drain_s)
    finally:
        await health_servicer.enter_graceful_shutdown()
        gateway.drain()
        await server.stop(drain_s)
        await gateway.close()
    _log.info("gRPC gateway is down")


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise ConfigurationError(
            f"the gRPC gateway cannot listen on {address}: {error}",
            setting="grpc.address",
            do="choose another port, or stop what holds this one",
        ) from error


def _options(gateway: FrameGateway) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", gateway.limits.message_bytes_max),
        ("grpc.max_concurrent_streams", gateway.limits.streams_max + 16),
        ("grpc.so_reuseport", 0),
        # A camera whose network went away holds no place for longer than half a minute.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ]
