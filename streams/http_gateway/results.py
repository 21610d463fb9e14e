"""The route of results: `GET /results/stream`, server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse

from schemas.errors import LogUnavailableError
from streams.http_gateway.access import about
from streams.http_gateway.deadlines import within
from streams.http_gateway.limits import HttpLimits
from streams.http_gateway.problems import documented
from streams.http_gateway.result_stream import ResultStream, parse_position
from streams.http_gateway.submission import time_us
from streams.records import ms_from

_EXAMPLE = (
    "id: 0:17,1:4\nevent: ResultDerived\n"
    'data: {"event": "ResultDerived", "topic": "vision.results", "partition": 0, "offset": 16, "appended_at_ms": 1795315620000, '
    '"content": {"event_id": "...", "frame": {"device_id": "gate-1"}, "outcome": "read"}}\n\n'
)


def result_routes(*, stream: ResultStream, limits: HttpLimits) -> APIRouter:
    """The route, bound to what it needs."""
    routes = APIRouter(tags=["results"])

    @routes.get(
        "/results/stream",
        summary="Follow the results",
        response_class=EventSourceResponse,
        responses={
            200: {
                "description": "Events `open`, `ResultDerived`, `ResultCorrected` and `gap`; comments keep a quiet line alive.",
                "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
            },
            **documented("bad_position", "bad_timestamp", "invalid_request", "unavailable", "busy"),
        },
    )
    async def follow(
        request: Request,
        device_id: Annotated[str | None, Query(description="Only this device.", max_length=128)] = None,
        from_: Annotated[
            str | None,
            Query(
                alias="from",
                description="Begin at this time of the broker (RFC 3339); without it, now.",
                examples=["2026-11-22T03:47:00Z"],
            ),
        ] = None,
        last_event_id: Annotated[
            str | None, Header(description="The id of the last event seen: resumes after it, and outweighs `from`.")
        ] = None,
    ) -> EventSourceResponse:
        """Begins at the end of the log, at a time, or after the last event seen, and goes on for ever."""
        resume = parse_position(last_event_id) if last_event_id else None
        from_ms = ms_from(time_us(from_)) if from_ else None
        async with within(limits.view_s, LogUnavailableError):
            starts = await stream.starts(resume=resume, from_ms=from_ms)
        if device_id is not None:
            about(request, device_id=device_id)
        return EventSourceResponse(
            stream.events(starts, device_id),
            ping=limits.heartbeat_s,
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return routes
