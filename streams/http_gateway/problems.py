"""Everything that the HTTP gateway says no with: RFC 9457 problem documents, one table of reasons, and the handlers
that turn exceptions into them.

Every error answer of the gateway, FastAPI's own included, is `application/problem+json` with type, title, status,
detail, instance and `reason`. `GET /problems/{reason}` says what a reason means and what to do.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from schemas.errors import ContractError, TransientError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2

_log = structlog.get_logger("hindsight.http")


@dataclass(frozen=True, slots=True)
class Reason:
    """What a reason stands for: the answer's status, its title, and what the client can do."""

    status: int
    title: str
    do: str


REASONS: Mapping[str, Reason] = MappingProxyType(
    {
        "not_an_image": Reason(415, "The file is not an image", "Send JPEG, PNG, WebP or BMP as it left the camera."),
        "unsupported_format": Reason(415, "The image has a format that is not read", "Send JPEG, PNG, WebP or BMP."),
        "not_multipart": Reason(415, "The body is not a form", "Send multipart/form-data with a file field `image`."),
        "too_large": Reason(413, "The image is too large", "Send fewer bytes; the limit is in the detail."),
        "too_many_pixels": Reason(422, "The image has too many pixels", "Scale it down before sending it."),
        "too_many_scans": Reason(422, "The image has too many scans", "Encode it again, as a camera does."),
        "truncated": Reason(422, "The image is cut off", "Send it again, whole."),
        "bad_multipart": Reason(400, "The form cannot be read", "Hold the body against RFC 7578."),
        "missing_field": Reason(422, "A field is missing", "Send every required field."),
        "bad_field": Reason(422, "A field has a value that cannot be used", "Correct the field that the detail names."),
        "bad_timestamp": Reason(422, "captured_at is not a time", "Send RFC 3339 with an offset, such as 2026-11-22T03:47:00Z."),
        "unknown_device": Reason(422, "The device is not known", "Add the device to the settings, or correct its name."),
        "bad_idempotency_key": Reason(400, "The Idempotency-Key cannot be used", "Send 1 to 255 visible ASCII characters."),
        "idempotency_key_reused": Reason(
            422, "The Idempotency-Key was used for another submission", "Use a new key for a new image."
        ),
        "read_timeout": Reason(408, "The body came too slowly", "Send it again over a faster line."),
        "unknown_task": Reason(404, "No such task", "Check the id; tasks are kept for as long as the log is."),
        "device_not_found": Reason(404, "No such device", "Check the name; a device appears with its first frame."),
        "bad_position": Reason(400, "The position cannot be resumed", "Send the id of an event of this stream, unchanged."),
        "invalid_request": Reason(422, "The request is not valid", "Hold it against /openapi.json."),
        "not_found": Reason(404, "No such page", "See /openapi.json for what there is."),
        "method_not_allowed": Reason(405, "This page does not take that method", "See the Allow header."),
        "unavailable": Reason(503, "Something behind the gateway is away", "Try again later, with an Idempotency-Key."),
        "busy": Reason(503, "Too many requests at once", "Try again after Retry-After."),
        "internal": Reason(500, "The gateway made a mistake", "Report it with the time and the path."),
    }
)
_OTHER = Reason(422, "The frame was refused", "See the detail.")
# Keeping the connection would mean to receive the rest of a body that nobody wants.
_BODY_UNREAD = {"too_large", "read_timeout", "busy"}
_LINGER_BYTES, _LINGER_S = 4 * 1024 * 1024, 1.0
_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class ProblemError(ContractError):
    """A request that is answered with a problem document; `extra` are further members of it."""

    def __init__(self, reason: str, detail: str, *, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.extra = dict(extra or {})


def problem(
    path: str, reason: str, detail: str, *, status: int | None = None, extra: Mapping[str, Any] | None = None
) -> JSONResponse:
    """The answer itself. A 503 carries Retry-After; `instance` is the path without its query, which may hold secrets."""
    known = REASONS.get(reason, _OTHER)
    code = status or known.status
    content = {
        "type": f"/problems/{reason}",
        "title": known.title,
        "status": code,
        "detail": detail,
        "instance": path,
        "reason": reason,
        **(extra or {}),
    }
    headers = {"retry-after": str(RETRY_AFTER_S)} if code == HTTPStatus.SERVICE_UNAVAILABLE else {}
    if reason in _BODY_UNREAD:
        headers["connection"] = "close"
        return _Parting(content, status_code=code, headers=headers, media_type=MEDIA_TYPE)
    return JSONResponse(content, status_code=code, headers=headers, media_type=MEDIA_TYPE)


class _Parting(JSONResponse):
    """An answer to a client that may still be sending. Closing at once would reset the line and lose the answer, so
    some more of what comes is taken and thrown away first.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left = _LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while left > 0:
                    message = await receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        break
                    left -= len(message["body"])
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def install(app: FastAPI) -> None:
    """Answer every exception with a problem document."""

    @app.exception_handler(ProblemError)
    async def _ours(request: Request, error: ProblemError) -> Response:
        return problem(request.url.path, error.reason, str(error), extra=error.extra)

    @app.exception_handler(TransientError)
    async def _away(request: Request, error: TransientError) -> Response:
        _log.warning("unavailable", path=request.url.path, error=str(error), kind=type(error).__name__)
        return problem(request.url.path, "unavailable", str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        # Never the offending input itself: it may be large or secret.
        errors = [{"where": [str(part) for part in e["loc"]], "message": str(e["msg"])} for e in error.errors()]
        detail = "; ".join(f"{'.'.join(e['where'])}: {e['message']}" for e in errors)
        return problem(request.url.path, "invalid_request", detail, extra={"errors": errors})

    @app.exception_handler(HTTPException)
    async def _framework(request: Request, error: HTTPException) -> Response:
        reason = _BY_STATUS.get(error.status_code, "invalid_request" if error.status_code < 500 else "internal")
        answer = problem(request.url.path, reason, str(error.detail), status=error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def _mistake(request: Request, error: Exception) -> Response:
        _log.error("unexpected", path=request.url.path, exc_info=error)
        return problem(request.url.path, "internal", "an unexpected error; the gateway's log has it")


def documented(*reasons: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` for these reasons, with an example of each."""
    out: dict[int | str, dict[str, Any]] = {}
    for name in reasons:
        known = REASONS[name]
        entry = out.setdefault(
            known.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}}},
        )
        entry["description"] = "; ".join(filter(None, (entry["description"], known.title)))
        example = {"type": f"/problems/{name}", "title": known.title, "status": known.status}
        example |= {"detail": known.do, "instance": "/analyze", "reason": name}
        entry["content"][MEDIA_TYPE]["examples"][name] = {"summary": known.title, "value": example}
        if known.status == HTTPStatus.SERVICE_UNAVAILABLE:
            entry["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return out
