"""The bodies of the gateway's answers, as OpenAPI shows them. States of views are passed on as they are."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["submitted", "accepted", "rejected", "done", "failed", "skipped"]
_TASK = "5f3c5a52-5d2b-5b0c-9a58-0d6d0f6f6c11"


class TaskAccepted(BaseModel):
    """The log holds the frame."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"task_id": _TASK, "status": "submitted"}]})

    task_id: str = Field(description="Also the frame's id everywhere else.")
    status: Literal["submitted"]


class Task(BaseModel):
    """Where a frame is on its way, and what it counts for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"task_id": _TASK, "status": "submitted", "device_id": "gate-1", "reasons": [], "detail": ""},
                {"task_id": _TASK, "status": "rejected", "device_id": "gate-1", "reasons": ["too_dark"], "detail": "mean luma 3"},
            ]
        }
    )

    task_id: str
    status: Status = Field(
        description="submitted: on the log. accepted or rejected: assessed. done, failed or skipped: there is a result."
    )
    device_id: str
    reasons: list[str] = Field(default_factory=list, description="Why the frame was rejected.")
    detail: str = ""
    frame: dict[str, Any] | None = Field(default=None, description="The frame's reference: session, sequence, time, blob.")
    result: dict[str, Any] | None = Field(default=None, description="hindsight.results.ResultDerived, field by field.")


class Device(BaseModel):
    """What the views hold of one device."""

    device_id: str
    frames: dict[str, Any] | None = Field(description="The view device_frames; null before the first frame was assessed.")
    results: dict[str, Any] | None = Field(description="The view device_results; null before the first result.")


class Live(BaseModel):
    """The process answers."""

    live: Literal[True] = True


class Check(BaseModel):
    """One readiness check."""

    ok: bool
    detail: str
    duration_ms: float


class Ready(BaseModel):
    """Everything behind the gateway answers."""

    ready: Literal[True] = True
    checks: dict[str, Check]


class ReasonDocument(BaseModel):
    """What a problem's reason means."""

    reason: str
    status: int
    title: str
    do: str


class Problem(BaseModel):
    """RFC 9457; `reason` is the last part of `type`. Some carry more, such as task_id."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    reason: str
