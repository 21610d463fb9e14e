"""Runs the two doors by which frames come in: the gRPC gateway and the HTTP gateway."""

import asyncio
import signal

import structlog
import uvicorn

from streams.grpc_gateway import FrameGateway, GatewayLimits, serve
from streams.http_gateway.app import http_app
from streams.http_gateway.limits import HttpLimits
from streams.idempotency import RedisSubmissions
from topology import wiring
from topology.health import Health
from topology.settings import Settings

log = structlog.get_logger()


async def run_grpc(settings: Settings) -> int:
    """The gRPC gateway until SIGTERM or SIGINT, then a drain; gives the exit code."""
    stop = _stop_on_signals()
    await asyncio.to_thread(wiring.prepare, settings)
    appender = wiring.appender(settings)
    gateway = FrameGateway(
        wiring.publisher(settings, to=appender, channel="grpc"), grpc_limits(settings), known=wiring.knows_device(settings)
    )
    health = Health(host=settings.gateway.host, port=settings.gateway.metrics_port)
    health.start()

    def started(port: int) -> None:
        health.ready = True

    try:
        await serve(
            gateway,
            address=f"{settings.gateway.host}:{settings.gateway.port}",
            stop=stop,
            drain_s=settings.gateway.drain_timeout_s,
            started=started,
        )
    finally:
        health.ready = False
        left = appender.close()
        health.stop()
    return 1 if left else 0


async def run_http(settings: Settings) -> int:
    """The HTTP gateway until SIGTERM or SIGINT; gives the exit code."""
    await asyncio.to_thread(wiring.prepare, settings)
    using = wiring.clients(settings)
    app = http_app(
        publisher=wiring.publisher(settings, to=using.appender, channel="http"),
        views=using.views,
        log=using.log,
        schemas=using.schemas,
        blobs=using.blobs,
        submissions=RedisSubmissions(using.redis, wiring.namespace(settings)),
        devices=wiring.knows_device(settings),
        partitions=settings.kafka.partitions,
        limits=HttpLimits(image_bytes=settings.http.max_image_bytes, image_pixels=settings.http.max_pixels),
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.http.host,
            port=settings.http.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=10,
        )
    )
    try:
        await server.serve()
    finally:
        await using.close()
    return 0 if server.started else 1


def grpc_limits(settings: Settings) -> GatewayLimits:
    gateway = settings.gateway
    return GatewayLimits(
        image_bytes_max=settings.http.max_image_bytes,
        message_bytes_max=gateway.max_message_bytes,
        image_pixels_max=settings.http.max_pixels,
        window_frames=gateway.queue_frames,
        frames_per_stream_max=gateway.max_frames_per_stream,
        streams_max=gateway.max_streams,
    )


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
