"""One log line and one measurement for each request, written when its answer is complete.

The line names the route, the status, the task and the trace, and never the query, headers or body, which may hold
secrets. Routes say which task they were about by `about`.
"""

import time
from typing import Any

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.http_gateway.metrics import HttpMetrics
from streams.http_gateway.submission import traceparent_of

_log = structlog.get_logger("hindsight.http.access")


def about(request: Request, **what: str) -> None:
    """Add fields, such as task_id, to the request's line."""
    request.scope.setdefault("hindsight", {}).update(what)


class AccessLines:
    """ASGI middleware, outside everything else."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fields: dict[str, Any] = scope.setdefault("hindsight", {})
        start = time.monotonic()
        status = 500
        began_s: float | None = None

        async def watched(message: Message) -> None:
            nonlocal status, began_s
            if message["type"] == "http.response.start":
                status, began_s = message["status"], time.monotonic() - start
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # Unknown paths share one label, or anybody could fill the metrics.
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, scope["method"], str(status)).inc()
            if began_s is not None:
                self._metrics.seconds.labels(route, scope["method"]).observe(began_s)
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"][:200],
                status=status,
                duration_ms=round((time.monotonic() - start) * 1000, 1),
                trace_id=_trace_id(scope),
                **fields,
            )


def _trace_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"traceparent":
            parent = traceparent_of(value.decode("latin-1"))
            return parent.split("-")[1] if parent else ""
    return ""
