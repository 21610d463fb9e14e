"""A Triton Inference Server for one question: started on a private repository, asked (or only made to load), and ended.

It is the same program that serves, with the same configuration of the models, on free ports of the loopback address. It
shares nothing with the serving one, and ends with this process whatever becomes of it.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from schemas.errors import ContractError, InferenceTimeoutError, ModelProcessDiedError, TransientError
from schemas.types import ReleaseStep
from streams.ports import Answer
from topology.stack import launch
from topology.stack.ports import FREE_RANGE, choose
from topology.stack.probes import http_answers

if TYPE_CHECKING:
    from streams.triton import TritonInference

_ENSEMBLE = "again"
_READY_S = 90.0
_CALL_S = 60.0
_LOAD_S = 120.0
_POLL_S = 0.05


class OwnServer:
    """A server on a repository, with nothing loaded, ready. Close it to end it.

    Args:
        folder: For the server's log and backends.
    Raises:
        ContractError: it ended instead; its last lines are in the message.
        TransientError: it did not become ready in time.
    """

    def __init__(self, repository: Path, *, threads: int, folder: Path) -> None:
        from triton_models.server import prepare_backends, shared_memory_prefix, tritonserver_command

        ports = choose(["grpc", "http", "metrics"], fixed={}, preferred={}, among=FREE_RANGE)
        argv, environment = tritonserver_command(
            repository,
            backends=prepare_backends(folder / "backends"),
            grpc_port=ports["grpc"],
            http_port=ports["http"],
            metrics_port=ports["metrics"],
            threads=threads,
        )
        self._shared_memory = f"{shared_memory_prefix(ports['grpc'])}*"
        self._log = folder / "triton.log"
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        self.endpoint = f"127.0.0.1:{ports['grpc']}"
        try:
            self._wait_ready(f"http://127.0.0.1:{ports['http']}/v2/health/ready")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for region in Path("/dev/shm").glob(self._shared_memory):
            region.unlink(missing_ok=True)

    def _wait_ready(self, url: str) -> None:
        deadline = time.monotonic() + _READY_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                return http_answers(url=url)
            except (OSError, ValueError):
                time.sleep(_POLL_S)
        said = self._log.read_text(errors="replace")[-1500:]
        if self._process.poll() is not None:
            raise ContractError(f"the private Triton ended with {self._process.returncode}: {said}")
        raise TransientError(f"the private Triton is not ready after {_READY_S:g} s: {said}")


class PrivateTriton:
    """A `Reader` on a server of its own. Close it to end the server.

    Args:
        repository: Folder with the versions of `steps`; the configurations are written into it.
        folder: For the server's log and backends.
        configurations: Those of models that bring no step of the reference pipeline, by the model's name.
    Raises:
        ContractError: the server cannot load these models; its reason is in the message.
        TransientError: it did not become ready in time.
    """

    def __init__(
        self,
        repository: Path,
        steps: tuple[ReleaseStep, ...],
        *,
        threads: int,
        folder: Path,
        configurations: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        _configure(repository, steps, threads, configurations)
        self._server = OwnServer(repository, threads=threads, folder=folder)
        self._loop = asyncio.Runner()
        try:
            self._inference = self._loop.run(_loaded(self._server.endpoint))
        except BaseException:
            self.close()
            raise

    def read(self, image: bytes, parameters: Mapping[str, float]) -> Answer:
        try:
            return self._loop.run(self._inference.infer(_ENSEMBLE, image, parameters))
        except InferenceTimeoutError as error:
            raise TransientError(f"the private Triton did not answer within {_CALL_S:g} s") from error
        except ModelProcessDiedError as error:
            told = f"the process of {error.model} in the private Triton died while it read"
            raise TransientError(told, do="look for memory; if it dies again, this picture kills the model") from error

    def close(self) -> None:
        if hasattr(self, "_inference"):
            self._loop.run(self._inference.close())
        self._loop.close()
        self._server.close()


def try_model(repository: Path, model: str, versions: tuple[int, ...], *, folder: Path) -> None:
    """Load a model on a server of its own, and end that.

    Raises:
        ContractError: the server does not load it; its reason is in the message.
        TransientError: the server did not become ready in time.
    """
    server = OwnServer(repository, threads=1, folder=folder)
    try:
        asyncio.run(_tried(server.endpoint, model, versions))
    finally:
        server.close()


async def _tried(endpoint: str, model: str, versions: tuple[int, ...]) -> None:
    from tritonclient.grpc.aio import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(endpoint)
    try:
        await client.load_model(model, client_timeout=_LOAD_S)
        for version in versions:
            if not await client.is_model_ready(model, str(version), client_timeout=_READY_S):
                raise ContractError(f"Triton loaded {model}, and its version {version} is not ready")
    except InferenceServerException as error:
        raise ContractError(
            f"Triton does not load {model}: {error.message()}", do="mend the model, and register it again; nothing was announced"
        ) from error
    finally:
        await client.close()


async def _loaded(endpoint: str) -> "TritonInference":
    """A client of the server, once it has the models; it belongs to the loop that makes it."""
    from streams.triton import TritonInference, TritonModels

    models = TritonModels(endpoint)
    try:
        await models.load(_ENSEMBLE)
    finally:
        await models.close()
    return TritonInference(endpoint, timeout_s=_CALL_S)


def _configure(repository: Path, steps: tuple[ReleaseStep, ...], threads: int, configurations: Mapping[str, str]) -> None:
    from topology.configured import generated_configuration, members_of
    from triton_models.ensemble import ensemble_text, hold_joined
    from triton_models.model_configuration import served

    texts: dict[str, str] = {}
    for step in steps:
        folder = repository / step.model / str(step.version)
        text = generated_configuration(folder, model=step.model, threads=threads) or configurations.get(step.model)
        if text is not None:
            texts[step.model] = text
            (folder.parent / "config.pbtxt").write_text(served(text))
    members = members_of(steps, texts)
    hold_joined(_ENSEMBLE, members)
    (repository / _ENSEMBLE / "1").mkdir(parents=True, exist_ok=True)
    (repository / _ENSEMBLE / "config.pbtxt").write_text(ensemble_text(_ENSEMBLE, members))
