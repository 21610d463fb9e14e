"""`Inference` and `ModelServer` on Triton by gRPC. `triton_processes` is the care of the models that are loaded."""

import json
from collections.abc import Mapping

import grpc
from tritonclient.grpc.aio import InferenceServerClient, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from schemas.errors import (
    ContractError,
    InferenceUnavailableError,
    ReleaseNotReadyError,
    StepFailedError,
    TransientError,
)
from streams.ports import Answer
from streams.triton_errors import status_of, text_input, translated
from streams.triton_probe import probe

_LONG_MESSAGE_BYTES = 64 * 1024 * 1024
_PROBE_S = 5.0


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
        inputs = [text_input("IMAGE", image), text_input("PARAMETERS", json.dumps(dict(parameters), sort_keys=True).encode())]
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

    async def is_well(self, release: str) -> bool:
        """Whether every model process of a release answers to a probe."""
        try:
            await probe(self._client, release, self.endpoint, timeout_s=_PROBE_S)
        except TransientError:
            return False
        return True

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
            if isinstance(found, ReleaseNotReadyError) or not isinstance(found, TransientError):
                return False
            raise InferenceUnavailableError(str(found), do=found.do) from error

    async def load(self, release: str) -> None:
        try:
            await self._client.load_model(release, client_timeout=self._load_timeout_s)
        except InferenceServerException as error:
            if status_of(error) == "DEADLINE_EXCEEDED":
                late = f"Triton at {self._endpoint} did not load {release} within {self._load_timeout_s:g} s"
                raise ContractError(late) from error
            if status_of(error) == "UNAVAILABLE" and "ensemble" not in error.message():
                raise InferenceUnavailableError(f"Triton at {self._endpoint}: {error.message()}") from error
            raise ContractError(f"Triton at {self._endpoint} does not load {release}: {error.message()}") from error
        if not await self.is_ready(release):
            raise InferenceUnavailableError(f"Triton at {self._endpoint} loaded {release}, and it is not ready yet")

    async def close(self) -> None:
        await self._client.close()


def _bytes(answer: object, name: str) -> bytes:
    array = answer.as_numpy(name)  # type: ignore[attr-defined]  # tritonclient has no types
    if array is None or array.size != 1:
        raise StepFailedError(f"the ensemble's answer has no {name}", step=None)
    return bytes(array.reshape(-1)[0])
