"""The HTTP gateway put together: one FastAPI app from ports, and nothing from the environment.

`topology` builds the ports and serves the app. Frames go in by `intake`, answers come from `lookups`, results go out
by `result_stream`; every refusal is a problem document.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from schemas.codec import Schemas
from streams.http_gateway import problems
from streams.http_gateway.access import AccessLines
from streams.http_gateway.feed import ResultFeed
from streams.http_gateway.frames import frame_routes
from streams.http_gateway.health import Readiness, checks_of
from streams.http_gateway.intake import Intake
from streams.http_gateway.limits import HttpLimits
from streams.http_gateway.lookups import Lookups
from streams.http_gateway.metrics import HttpMetrics
from streams.http_gateway.operations import operation_routes
from streams.http_gateway.result_stream import ResultStream
from streams.http_gateway.results import result_routes
from streams.http_gateway.wire import Problem
from streams.idempotency import Submissions
from streams.ports import BlobStore, EventLog, ViewStore
from streams.publishing import FramePublisher
from streams.records import Clock, system_clock


def http_app(
    *,
    publisher: FramePublisher,
    views: ViewStore,
    log: EventLog,
    schemas: Schemas,
    blobs: BlobStore,
    submissions: Submissions,
    devices: Callable[[str], bool],
    partitions: int,
    limits: HttpLimits = HttpLimits(),
    clock: Clock = system_clock,
    version: str = "0.1.0",
) -> FastAPI:
    """The app, which owns nothing that it was given: whoever made the ports closes them after it.

    Args:
        publisher: Made with channel "http".
        blobs: Asked by the readiness check only.
        submissions: Idempotency keys and marks.
        devices: Whether a device is known.
        partitions: Number of partitions of the chain's topics.
    """
    metrics = HttpMetrics()
    feed = ResultFeed(log=log, schemas=schemas, metrics=metrics, buffer=limits.stream_events)
    intake = Intake(publisher=publisher, submissions=submissions, devices=devices, clock=clock, limits=limits, metrics=metrics)
    lookups = Lookups(views=views, submissions=submissions, partitions=partitions, deadline_s=limits.view_s)
    stream = ResultStream(log=log, feed=feed, metrics=metrics, most=limits.streams)
    readiness = Readiness(checks_of(log=log, blobs=blobs, views=views), deadline_s=limits.ready_s)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        feed.close()

    app = FastAPI(
        title="Hindsight",
        version=version,
        summary="Frames in, results out.",
        description="Errors are problem documents (RFC 9457). Times ending in _us are microseconds since the epoch, UTC.",
        lifespan=lifespan,
    )
    problems.install(app)
    app.add_middleware(AccessLines, metrics=metrics)
    app.include_router(frame_routes(intake=intake, lookups=lookups, devices=devices, limits=limits))
    app.include_router(result_routes(stream=stream, limits=limits))
    app.include_router(operation_routes(readiness=readiness, metrics=metrics))
    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    """Put the problem document among OpenAPI's schemas; FastAPI only puts those of successful answers there."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        parts = document.setdefault("components", {}).setdefault("schemas", {})
        parts.setdefault("Problem", Problem.model_json_schema())
        for leftover in ("HTTPValidationError", "ValidationError"):
            parts.pop(leftover, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way of changing the document
