"""`Inference` and `ModelServer` on Triton by gRPC. Its errors become ours here, and a failed step is named."""

import json
import re
from collections.abc import Mapping

import grpc
import numpy as np
from tritonclient.grpc.aio import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from schemas.errors import (
    ContractError,
    HindsightError,
    InferenceTimeoutError,
    InferenceUnavailableError,
    ReleaseNotReadyError,
    StepFailedError,
)
from streams.ports import Answer

_STEP = re.compile(r"\bstep (?P<step>[A-Za-z0-9_-]+) \(model ")
_STUB = re.compile(r"[Ss]tub process '(?P<model>[A-Za-z0-9_-]+?)(_\d+)*' is not healthy")
_NOT_READY = ("not found", "is not ready", "no available versions", "unknown model")
_LONG_MESSAGE_BYTES = 64 * 1024 * 1024


class TritonInference:
    """Calls ensembles on one Triton. Use it inside one event loop, and close it there.

    Args:
        endpoint: host:port of Triton's gRPC.
        timeout_s: Deadline of one call.
    """

    def __init__(self, endpoint: str, *, timeout_s: float) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._client = InferenceServerClient(
            endpoint,
            channel_args=[
                ("grpc.max_send_message_length", _LONG_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", _LONG_MESSAGE_BYTES),
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 2000),
            ],
        )

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        inputs = [_text("IMAGE", image), _text("PARAMETERS", json.dumps(dict(parameters), sort_keys=True).encode())]
        outputs = [InferRequestedOutput("RESULT"), InferRequestedOutput("REPORT")]
        headers = {"traceparent": traceparent} if traceparent else None
        try:
            answer = await self._client.infer(
                release, inputs, model_version="1", outputs=outputs, headers=headers, client_timeout=self._timeout_s
            )
        except InferenceServerException as error:
            raise translated(error, release, self.endpoint) from error
        except grpc.RpcError as error:
            raise InferenceUnavailableError(f"Triton at {self.endpoint}: {error}") from error
        return Answer(result_json=_bytes(answer, "RESULT"), report_json=_bytes(answer, "REPORT"), endpoint=self.endpoint)

    async def is_live(self) -> bool:
        """Whether the server says that it lives."""
        try:
            return bool(await self._client.is_server_live(client_timeout=1.0))
        except (InferenceServerException, grpc.RpcError):
            return False

    async def close(self) -> None:
        await self._client.close()


class TritonModels:
    """Loads ensembles on one Triton that runs with explicit model control.

    Args:
        load_timeout_s: Deadline for loading an ensemble with all its members.
    """

    def __init__(self, endpoint: str, *, load_timeout_s: float = 120.0) -> None:
        self._endpoint = endpoint
        self._load_timeout_s = load_timeout_s
        self._client = InferenceServerClient(
            endpoint, channel_args=[("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000)]
        )

    @property
    def endpoint(self) -> str:
        return self._endpoint

    async def is_ready(self, release: str) -> bool:
        try:
            return bool(await self._client.is_model_ready(release, "1", client_timeout=5.0))
        except InferenceServerException as error:
            found = translated(error, release, self._endpoint)
            if isinstance(found, InferenceUnavailableError) and not isinstance(found, ReleaseNotReadyError):
                raise found from error
            return False

    async def load(self, release: str) -> None:
        try:
            await self._client.load_model(release, client_timeout=self._load_timeout_s)
        except InferenceServerException as error:
            if _status(error) in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and "ensemble" not in error.message():
                raise InferenceUnavailableError(f"Triton at {self._endpoint}: {error.message()}") from error
            raise ContractError(f"Triton at {self._endpoint} does not load {release}: {error.message()}") from error
        if not await self.is_ready(release):
            raise InferenceUnavailableError(f"Triton at {self._endpoint} loaded {release}, and it is not ready yet")

    async def close(self) -> None:
        await self._client.close()


def translated(error: InferenceServerException, release: str, endpoint: str) -> HindsightError:
    """Triton's error as ours; a failed step or a dead model process is named."""
    status, message = _status(error), str(error.message())
    if status == "DEADLINE_EXCEEDED":
        return InferenceTimeoutError(f"{release}: no answer from {endpoint} within the deadline", endpoint=endpoint)
    if any(part in message.lower() for part in _NOT_READY):
        return ReleaseNotReadyError(f"{release}: {message}", do="see that a worker runs the release processor: it loads it")
    if status in ("UNAVAILABLE", "CANCELLED", "NOT_FOUND"):
        return InferenceUnavailableError(
            f"{release}: {message}", do="check that Triton runs and has the release: `hindsight status`"
        )
    step = _STEP.search(message)
    if step is not None:
        return StepFailedError(message, step=step["step"], endpoint=endpoint)
    stub = _STUB.search(message)
    return StepFailedError(message, step=stub["model"] if stub is not None else None, endpoint=endpoint)


def _status(error: InferenceServerException) -> str:
    return str(error.status() or "").removeprefix("StatusCode.")


def _text(name: str, content: bytes) -> InferInput:
    tensor = InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([content], dtype=np.object_))
    return tensor


def _bytes(answer: object, name: str) -> bytes:
    array = answer.as_numpy(name)  # type: ignore[attr-defined]  # tritonclient has no types
    if array is None or array.size != 1:
        raise StepFailedError(f"the ensemble's answer has no {name}", step=None)
    return bytes(array.reshape(-1)[0])
