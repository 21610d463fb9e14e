"""The routes for whoever runs the gateway: live, ready, metrics, and what a problem's reason means."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.http_gateway.health import Readiness
from streams.http_gateway.metrics import HttpMetrics
from streams.http_gateway.problems import REASONS, ProblemError, documented, problem
from streams.http_gateway.wire import Live, Ready, ReasonDocument


def operation_routes(*, readiness: Readiness, metrics: HttpMetrics) -> APIRouter:
    """The routes, bound to what they need."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/v2/health/live", response_model=Live, summary="Does the process answer?")
    async def live() -> Live:
        return Live()

    @routes.get(
        "/v2/health/ready",
        response_model=Ready,
        summary="Do Kafka, blob store and Redis answer?",
        responses=documented("unavailable"),
    )
    async def ready(request: Request) -> Response:
        checks = await readiness.ask()
        away = [f"{name}: {check['detail']}" for name, check in checks.items() if not check["ok"]]
        if away:
            return problem(request.url.path, "unavailable", "; ".join(away), extra={"ready": False, "checks": checks})
        return JSONResponse({"ready": True, "checks": checks})

    @routes.get(
        "/metrics", summary="Prometheus metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
    )
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @routes.get(
        "/problems/{reason}",
        response_model=ReasonDocument,
        summary="What a reason means",
        responses=documented("not_found", "invalid_request"),
    )
    async def reason_document(reason: str) -> ReasonDocument:
        if reason not in REASONS:
            raise ProblemError("not_found", "no problem has that reason")
        known = REASONS[reason]
        return ReasonDocument(reason=reason, status=known.status, title=known.title, do=known.do)

    return routes
