"""`ModelProcesses` and `StepTimes` on Triton by gRPC: whether what is loaded works, starting it anew, and where time goes.

A model process that was killed never comes back by itself. What starts another is loading the model with a configuration that
differs, so a parameter that no step reads gets another value; nothing is written, and the pinned files stay what they are.
Loading the unchanged files does nothing, and unloading hangs.
"""

import json
import time
import uuid
from typing import Any

import grpc
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from schemas.errors import ContractError, InferenceUnavailableError
from streams.ports import StepTime
from streams.triton_errors import status_of, translated
from streams.triton_probe import probe

_HEALED = "hindsight_healed"
_ASK_S = 5.0
_BUSY = ("LOADING", "UNLOADING")


class TritonProcesses:
    """Use it inside one event loop, and close it there.

    Args:
        probe_timeout_s: How long a probe may take: it waits behind the frames that are being read.
        heal_timeout_s: Deadline for starting a model anew.
    """

    def __init__(self, endpoint: str, *, probe_timeout_s: float = 30.0, heal_timeout_s: float = 120.0) -> None:
        self._endpoint = endpoint
        self._probe_timeout_s = probe_timeout_s
        self._heal_timeout_s = heal_timeout_s
        self._steps: dict[str, tuple[tuple[str, str], ...]] = {}
        self._client = InferenceServerClient(
            endpoint, channel_args=[("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000)]
        )

    @property
    def endpoint(self) -> str:
        return self._endpoint

    async def probe(self, release: str) -> None:
        await probe(self._client, release, self._endpoint, timeout_s=self._probe_timeout_s)

    async def heal(self, model: str) -> None:
        if any(entry.get("state") in _BUSY for entry in await self._index() if entry["name"] == model):
            raise InferenceUnavailableError(f"Triton at {self._endpoint} is busy with {model}")
        try:
            config = (await self._client.get_model_config(model, as_json=True, client_timeout=_ASK_S))["config"]
            config.setdefault("parameters", {})[_HEALED] = {"string_value": f"{time.time():.3f} {uuid.uuid4()}"}
            await self._client.load_model(model, config=json.dumps(config), client_timeout=self._heal_timeout_s)
        except InferenceServerException as error:
            if status_of(error) in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise InferenceUnavailableError(f"Triton at {self._endpoint}: {error.message()}") from error
            raise ContractError(f"Triton at {self._endpoint} does not start {model} anew: {error.message()}") from error
        except grpc.RpcError as error:
            raise InferenceUnavailableError(f"Triton at {self._endpoint}: {error}") from error

    async def loaded(self) -> frozenset[str]:
        return frozenset(entry["name"] for entry in await self._index() if entry.get("state") == "READY")

    async def step_times(self, release: str) -> tuple[StepTime, ...]:
        try:
            if release not in self._steps:
                self._steps[release] = await self._steps_of(release)
            counted = await self._client.get_inference_statistics(as_json=True, client_timeout=_ASK_S)
        except InferenceServerException as error:
            raise InferenceUnavailableError(f"{release}: {translated(error, release, self._endpoint)}") from error
        except grpc.RpcError as error:
            raise InferenceUnavailableError(f"Triton at {self._endpoint}: {error}") from error
        return tuple(_summed(counted, model, version) for model, version in (*self._steps[release], (release, "1")))

    async def close(self) -> None:
        await self._client.close()

    async def _steps_of(self, release: str) -> tuple[tuple[str, str], ...]:
        """Model and version of each step; a version of "" means that none is pinned."""
        found = await self._client.get_model_config(release, as_json=True, client_timeout=_ASK_S)
        steps = found["config"].get("ensemble_scheduling", {}).get("step", [])
        return tuple((s["model_name"], v if int(v := s.get("model_version", "-1")) > 0 else "") for s in steps)

    async def _index(self) -> list[dict[str, Any]]:
        try:
            found = await self._client.get_model_repository_index(as_json=True, client_timeout=_ASK_S)
        except (InferenceServerException, grpc.RpcError) as error:
            raise InferenceUnavailableError(f"Triton at {self._endpoint} does not say what it has loaded: {error}") from error
        return list(found.get("models", []))


def _summed(counted: dict[str, Any], model: str, version: str) -> StepTime:
    stats = [m["inference_stats"] for m in counted.get("model_stats", ()) if m["name"] == model and version in ("", m["version"])]

    def total(kind: str, what: str) -> int:
        return sum(int(s.get(kind, {}).get(what, 0)) for s in stats)

    return StepTime(
        model=model,
        through_count=total("success", "count"),
        failed_count=total("fail", "count"),
        busy_ns=total("compute_infer", "ns"),
    )
