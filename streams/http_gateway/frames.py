"""The routes of frames: `POST /analyze`, `GET /tasks/{id}` and `GET /devices/{id}`."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from streams.admission import is_name
from streams.http_gateway.access import about
from streams.http_gateway.intake import Accepted, Intake
from streams.http_gateway.limits import HttpLimits
from streams.http_gateway.lookups import FoundTask, Lookups
from streams.http_gateway.problems import ProblemError, documented
from streams.http_gateway.submission import key_of, traceparent_of
from streams.http_gateway.upload import UploadTooLargeError, read_upload
from streams.http_gateway.wire import Device, Task, TaskAccepted
from streams.tracing import current_traceparent, receiving

_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["device_id", "image"],
    "additionalProperties": False,
    "properties": {
        "device_id": {"type": "string", "maxLength": 128, "example": "gate-1"},
        "captured_at": {
            "type": "string",
            "format": "date-time",
            "description": "The device's clock, RFC 3339 with an offset; the gateway's clock when it is left out.",
            "example": "2026-11-22T03:47:00Z",
        },
        "passage_id": {"type": "string", "maxLength": 128, "description": "What passes the device, if a trigger knows."},
        "labels": {"type": "string", "description": "A JSON object of texts.", "example": '{"lane": "2"}'},
        "image": {"type": "string", "format": "binary", "description": "JPEG, PNG, WebP or BMP. Put it last."},
    },
}
_REFUSALS = documented(
    "not_an_image", "unsupported_format", "not_multipart", "too_large", "too_many_pixels", "too_many_scans", "truncated",
    "bad_multipart", "missing_field", "bad_field", "bad_timestamp", "unknown_device", "bad_idempotency_key",
    "idempotency_key_reused", "read_timeout", "unavailable", "busy",
)  # fmt: skip


def frame_routes(*, intake: Intake, lookups: Lookups, devices: Any, limits: HttpLimits) -> APIRouter:
    """The routes, bound to what they need."""
    routes = APIRouter(tags=["frames"])

    async def take(request: Request, key: str | None, parent: str) -> Accepted:
        try:
            upload = await read_upload(request, max_bytes=limits.image_bytes, deadline_s=limits.read_s)
        except UploadTooLargeError as error:
            await intake.refuse_too_large(error, traceparent=parent)
            raise
        return await intake.submit(upload, key=key, traceparent=parent)

    @routes.post(
        "/analyze",
        status_code=202,
        response_model=TaskAccepted,
        summary="Send one image",
        responses={
            202: {
                "headers": {
                    "Location": {"description": "Where to ask for the task.", "schema": {"type": "string"}},
                    "Idempotency-Replayed": {
                        "description": "true when an earlier request made it.",
                        "schema": {"type": "string"},
                    },
                }
            },
            **_REFUSALS,
        },
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
    )
    async def analyze(
        request: Request,
        response: Response,
        idempotency_key: Annotated[
            str | None, Header(description="Makes the same submission one task, however often it is sent; kept for a day.")
        ] = None,
        traceparent: Annotated[str | None, Header(description="W3C trace context; it travels on with the frame.")] = None,
    ) -> TaskAccepted:
        """Stores the image, puts the frame on the log and answers once both hold it. The same image twice is two tasks,
        unless they share an Idempotency-Key. After a 503 the frame may still have got through: repeat with the same key."""
        key, parent = key_of(idempotency_key), traceparent_of(traceparent)
        intake.enter()
        try:
            with receiving("http_gateway", parent) as span:
                accepted = await take(request, key, current_traceparent(parent))
                span.set_attribute("hindsight.frame_id", accepted.task_id)
        except ProblemError as error:
            about(request, reason=error.reason, **{k: v for k, v in error.extra.items() if k == "task_id"})
            raise
        finally:
            intake.leave()
        about(request, task_id=accepted.task_id, device_id=accepted.device_id)
        response.headers["location"] = f"/tasks/{accepted.task_id}"
        if accepted.repeated:
            response.headers["idempotency-replayed"] = "true"
        return TaskAccepted(task_id=accepted.task_id, status="submitted")

    @routes.get(
        "/tasks/{task_id}",
        response_model=Task,
        summary="Ask for a task",
        responses=documented("unknown_task", "invalid_request", "unavailable"),
    )
    async def task(request: Request, task_id: str) -> Task:
        """Status and result, from the views: any gateway knows it, whichever took the frame."""
        about(request, task_id=task_id[:64])
        found = await lookups.task(task_id)
        if found is None:
            raise ProblemError("unknown_task", f"task {task_id[:64]!r} is not known")
        return _task(task_id, found)

    @routes.get(
        "/devices/{device_id}",
        response_model=Device,
        summary="Ask for a device",
        responses=documented("device_not_found", "invalid_request", "unavailable"),
    )
    async def device(request: Request, device_id: str) -> Device:
        """The device's views: its last frames and its last results."""
        about(request, device_id=device_id[:128])
        frames, results = await lookups.device(device_id) if is_name(device_id) else (None, None)
        if frames is None and results is None and not (is_name(device_id) and devices(device_id)):
            raise ProblemError("device_not_found", f"device {device_id[:128]!r} is not known and sent nothing")
        return Device(device_id=device_id, frames=dict(frames) if frames else None, results=dict(results) if results else None)

    return routes


def _task(task_id: str, found: FoundTask) -> Task:
    outcome, result = found.outcome or {}, found.result
    return Task(
        task_id=task_id,
        status=found.status,  # type: ignore[arg-type]  # checked by the model
        device_id=found.device_id,
        reasons=list(outcome.get("reasons", ())),
        detail=(result or outcome).get("detail", ""),
        frame=(result or outcome).get("frame"),
        result=dict(result) if result else None,
    )
