"""Triton's errors as ours, in one place for all that talks to it: a failed step and a dead model process are named."""

import re

import numpy as np
from tritonclient.grpc.aio import InferInput
from tritonclient.utils import InferenceServerException

from schemas.errors import (
    HindsightError,
    InferenceTimeoutError,
    InferenceUnavailableError,
    ModelProcessDiedError,
    ReleaseNotReadyError,
    ServerLostError,
    StepFailedError,
)

_STEP = re.compile(r"\bstep (?P<step>[A-Za-z0-9_-]+) \(model ")
_STUB = re.compile(r"[Ss]tub process '(?P<model>[^']+?)(_\d+_\d+)?' is not healthy")
_MODEL = re.compile(r"\bmodel '(?P<model>[^']+?)(_\d+_\d+)?'")
_NOT_READY = ("not found", "is not ready", "not at ready state", "no available versions", "unknown model")
# What gRPC says of a connection that broke with a call in it; one that was never made reads otherwise.
_LOST = ("socket closed", "connection reset", "recvmsg", "broken pipe", "goaway", "stream removed", "rst_stream")


def translated(error: InferenceServerException, release: str, endpoint: str) -> HindsightError:
    """Triton's error as ours; a failed step or a dead model process is named."""
    status, message = status_of(error), str(error.message())
    if status == "DEADLINE_EXCEEDED":
        return InferenceTimeoutError(f"{release}: no answer from {endpoint} within the deadline", endpoint=endpoint)
    step = _STEP.search(message)
    if step is not None:
        return StepFailedError(message, step=step["step"], endpoint=endpoint)
    # By its status too: a model's own error may say that something was not found.
    if status in ("NOT_FOUND", "UNAVAILABLE") and any(part in message.lower() for part in _NOT_READY):
        return ReleaseNotReadyError(f"{release}: {message}", do="see that a worker runs the release processor: it loads it")
    if status == "UNAVAILABLE" and any(part in message.lower() for part in _LOST):
        return ServerLostError(f"{release}: {message}", endpoint=endpoint)
    if status in ("UNAVAILABLE", "CANCELLED", "NOT_FOUND"):
        return InferenceUnavailableError(
            f"{release}: {message}", do="check that Triton runs and has the release: `hindsight status`"
        )
    stub = _STUB.search(message)
    if stub is not None:
        return ModelProcessDiedError(message, model=stub["model"], endpoint=endpoint)
    named = _MODEL.search(message)
    return StepFailedError(message, step=None, endpoint=endpoint, model=named["model"] if named is not None else None)


def status_of(error: InferenceServerException) -> str:
    return str(error.status() or "").removeprefix("StatusCode.")


def text_input(name: str, content: bytes) -> InferInput:
    tensor = InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([content], dtype=np.object_))
    return tensor
