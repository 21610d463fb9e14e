"""A Triton Inference Server for one question: started on a private repository, asked, and ended.

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
from typing import TYPE_CHECKING

from schemas.errors import ContractError, InferenceTimeoutError, TransientError
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
_POLL_S = 0.05


class PrivateTriton:
    """A `Reader` on a server of its own. Close it to end the server.

    Args:
        repository: Folder with the versions of `steps`; the configurations are written into it.
        folder: For the server's log and backends.
    Raises:
        ContractError: the server cannot load these models; its reason is in the message.
        TransientError: it did not become ready in time.
    """

    def __init__(self, repository: Path, steps: tuple[ReleaseStep, ...], *, threads: int, folder: Path) -> None:
        from triton_models.server import prepare_backends, shared_memory_prefix, tritonserver_command

        _configure(repository, steps, threads)
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
        self._loop = asyncio.Runner()
        try:
            self._wait_ready(f"http://127.0.0.1:{ports['http']}/v2/health/ready")
            endpoint = f"127.0.0.1:{ports['grpc']}"
            self._inference = self._loop.run(_loaded(endpoint))
        except BaseException:
            self.close()
            raise

    def read(self, image: bytes, parameters: Mapping[str, float]) -> Answer:
        try:
            return self._loop.run(self._inference.infer(_ENSEMBLE, image, parameters))
        except InferenceTimeoutError as error:
            raise TransientError(f"the private Triton did not answer within {_CALL_S:g} s") from error

    def close(self) -> None:
        if hasattr(self, "_inference"):
            self._loop.run(self._inference.close())
        self._loop.close()
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


async def _loaded(endpoint: str) -> "TritonInference":
    """A client of the server, once it has the models; it belongs to the loop that makes it."""
    from streams.triton import TritonInference, TritonModels

    models = TritonModels(endpoint)
    try:
        await models.load(_ENSEMBLE)
    finally:
        await models.close()
    return TritonInference(endpoint, timeout_s=_CALL_S)


def _configure(repository: Path, steps: tuple[ReleaseStep, ...], threads: int) -> None:
    from triton_models.configuration import StepPin, ensemble_config, model_config

    for step in steps:
        versions = tuple(sorted({s.version for s in steps if s.model == step.model}))
        config = model_config(step.step, model=step.model, versions=versions, threads=threads)
        (repository / step.model / "config.pbtxt").write_text(config)
    pins = tuple(StepPin(step=s.step, model=s.model, version=s.version) for s in steps)
    (repository / _ENSEMBLE / "1").mkdir(parents=True, exist_ok=True)
    (repository / _ENSEMBLE / "config.pbtxt").write_text(ensemble_config(_ENSEMBLE, pins))
