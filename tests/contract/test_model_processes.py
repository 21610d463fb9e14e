"""Fleet, healer and infer step on a real Triton whose second step does what the picture says: fails, is slow, dies.

A small ensemble of two Python models, in a repository of its own.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc.aio import InferenceServerClient

from processors.infer.core import Answered, Failed, Route
from processors.infer.step import InferStep, Retries
from processors.release import core
from processors.release.healing import ModelHealer
from schemas.catalogue import COMMANDS
from schemas.codec import FixedSchemas, decode
from schemas.errors import (
    InferenceTimeoutError,
    InferenceUnavailableError,
    ModelProcessDiedError,
    ReleaseNotReadyError,
    StepFailedError,
)
from schemas.events import PromoteRelease, RegisterRelease, ReportModelHealed, ReportReleaseLoaded
from schemas.types import EventId, ReleaseStep
from streams.fleet import Fleet
from streams.memory import MemoryBlobStore
from streams.ports import Inference
from streams.records import Outgoing, Position, system_clock
from streams.slow_steps import NamingSlowSteps
from streams.triton import TritonInference, TritonModels
from streams.triton_processes import TritonProcesses
from tests.given import AT_US, accepted, cause
from topology.doctor_pipeline import serving_troubles
from topology.stack import launch
from topology.stack.ports import FREE_RANGE, choose
from topology.stack.probes import http_answers
from triton_models.digest import model_digest
from triton_models.server import prepare_backends, shared_memory_prefix, tritonserver_command

TIMEOUT_S = 3.0
STEPS = tuple(ReleaseStep(step=step, model=model, version=1, digest="ab") for step, model in (("load", "m_1"), ("look", "m_2")))
ROUTE = Route(release="tiny", parameters={}, pins={}, releases_offset=0, steps_by_model={"m_1": "load", "m_2": "look"})

_MODEL = """
import json, os, time
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        self.name = args["model_name"]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        image = bytes(pb.get_input_tensor_by_name(request, "IMAGE").as_numpy().reshape(-1)[0])
        if self.name == "m_1":
            return pb.InferenceResponse([pb.Tensor("OUT", np.array([image], dtype=object))])
        if image == b"slow":
            time.sleep(5)
        if image == b"die":
            os._exit(1)
        if image == b"fail":
            error = pb.TritonError("step look (model m_2 version 1): planted: label not found")
            return pb.InferenceResponse(output_tensors=[], error=error)
        result = json.dumps({"image": {"width_px": 1, "height_px": 1}, "observations": [], "candidates": []}).encode()
        report = json.dumps({"steps": [], "runtime": {}}).encode()
        told = (("RESULT", result), ("REPORT", report))
        return pb.InferenceResponse([pb.Tensor(name, np.array([text], dtype=object)) for name, text in told])
"""


def _config(name: str, takes: tuple[str, ...], gives: tuple[str, ...], more: str) -> str:
    def tensors(names: tuple[str, ...]) -> str:
        return ", ".join(f'{{ name: "{n}" data_type: TYPE_STRING dims: [ 1 ] }}' for n in names)

    return f'name: "{name}"\nmax_batch_size: 0\ninput [ {tensors(takes)} ]\noutput [ {tensors(gives)} ]\n{more}\n'


def build(repository: Path) -> None:
    for name, takes, gives in (("m_1", ("IMAGE", "PARAMETERS"), ("OUT",)), ("m_2", ("IMAGE",), ("RESULT", "REPORT"))):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.py").write_text(_MODEL)
        more = 'backend: "python"\ninstance_group [ { kind: KIND_CPU count: 1 } ]'
        (repository / name / "config.pbtxt").write_text(_config(name, takes, gives, more))
    steps = """platform: "ensemble"
    ensemble_scheduling { step [
      { model_name: "m_1" model_version: 1 input_map { key: "IMAGE" value: "IMAGE" }
        input_map { key: "PARAMETERS" value: "PARAMETERS" } output_map { key: "OUT" value: "LOADED" } },
      { model_name: "m_2" model_version: 1 input_map { key: "IMAGE" value: "LOADED" }
        output_map { key: "RESULT" value: "RESULT" } output_map { key: "REPORT" value: "REPORT" } }
    ] }"""
    (repository / "tiny" / "1").mkdir(parents=True)
    (repository / "tiny" / "config.pbtxt").write_text(_config("tiny", ("IMAGE", "PARAMETERS"), ("RESULT", "REPORT"), steps))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "repository"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def endpoint(repository: Path) -> Iterator[str]:
    """A Triton with the ensemble loaded; it ends with this process, whatever becomes of that."""
    ports = choose(["grpc", "http", "metrics"], fixed={}, preferred={}, among=FREE_RANGE)
    argv, environment = tritonserver_command(
        repository,
        backends=prepare_backends(repository.parent / "backends"),
        grpc_port=ports["grpc"],
        http_port=ports["http"],
        metrics_port=ports["metrics"],
        load=("tiny",),
    )
    log = repository.parent / "triton.log"
    with log.open("wb") as out:
        command = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *argv]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment)
    deadline = time.monotonic() + 60
    while True:
        try:
            http_answers(url=f"http://127.0.0.1:{ports['http']}/v2/health/ready")
            break
        except (OSError, ValueError):
            assert process.poll() is None, log.read_text()[-1500:]
            assert time.monotonic() < deadline, log.read_text()[-1500:]
            time.sleep(0.05)
    yield f"127.0.0.1:{ports['grpc']}"
    process.kill()
    process.wait()
    for region in Path("/dev/shm").glob(f"{shared_memory_prefix(ports['grpc'])}*"):
        region.unlink(missing_ok=True)


class Serving:
    """What a worker has: a fleet of one, a healer that looks twice a second, and the commands that it gave."""

    def __init__(self, endpoint: str) -> None:
        self.told: list[Any] = []
        self._schemas = FixedSchemas()
        self.server = TritonInference(endpoint, timeout_s=TIMEOUT_S)
        self.processes = TritonProcesses(endpoint)
        now_s = asyncio.get_running_loop().time
        fleet = Fleet((self.server,), timeout_s=TIMEOUT_S, calls_per_server=4, now_s=now_s)
        self.inference: Inference = NamingSlowSteps(fleet, (self.processes,), timeout_s=TIMEOUT_S)
        self._stop = asyncio.Event()
        self._healer = ModelHealer(
            pipeline="gate",
            state=_in_force,
            servers=(self.processes,),
            appender=self,
            schemas=self._schemas,
            clock=system_clock,
            every_s=0.5,
        )
        self._healing = asyncio.create_task(self._healer.run(self._stop))

    async def append(self, outgoing: Outgoing) -> Position:
        self.told.append(decode(outgoing.value, COMMANDS, self._schemas))
        return Position(topic=outgoing.topic, partition=0, offset=0)

    async def ask(self, image: bytes) -> Any:
        return await self.inference.infer("tiny", image, {})

    async def is_mended(self) -> None:
        """Wait for the healer: the test before may have ended with a dead process."""
        async with asyncio.timeout(60):
            while True:
                if await self.server.is_well("tiny"):
                    return
                await asyncio.sleep(0.2)

    async def close(self) -> None:
        self._stop.set()
        await self._healing
        await self.server.close()
        await self.processes.close()


def _in_force() -> core.PipelineReleases:
    told = {"pipeline": "gate", "release": "tiny", "command_id": EventId("c"), "issued_at_us": AT_US}
    state = core.INITIAL
    for command in (
        RegisterRelease(**told, issued_by="me", reason="", steps=STEPS, parameters={}),
        PromoteRelease(**told, issued_by="me", reason=""),
        ReportReleaseLoaded(**told, endpoint="one:8001", duration_us=1),
    ):
        state = core.fold_all(core.decide(state, command, cause(0, COMMANDS)), state)
    return state


def on(endpoint: str, test: Callable[[Serving], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        serving = Serving(endpoint)
        try:
            await serving.is_mended()
            await test(serving)
        finally:
            await serving.close()

    asyncio.run(whole())


def processes_of(repository: Path, model: str) -> set[int]:
    listed = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {int(line.split()[0]) for line in listed if f"{repository.resolve()}/{model}/1/" in line and "stub" in line}


def test_a_step_that_fails_is_named(endpoint: str) -> None:
    """Also when its own words are those with which Triton says that a model is not there."""

    async def test(serving: Serving) -> None:
        with pytest.raises(StepFailedError) as told:
            await serving.ask(b"fail")
        assert (told.value.step, told.value.endpoint) == ("look", endpoint)

    on(endpoint, test)


def test_a_step_that_is_too_slow_is_named(endpoint: str) -> None:
    """By Triton's own counts of what came through."""

    async def test(serving: Serving) -> None:
        for _ in range(3):
            await serving.ask(b"fine")
            await asyncio.sleep(0.3)
        with pytest.raises(InferenceTimeoutError) as told:
            await serving.ask(b"slow")
        assert (told.value.model, told.value.endpoint) == ("m_2", endpoint)

    on(endpoint, test)


def test_a_frame_that_kills_its_model_fails_with_the_step_named_and_the_others_are_read(endpoint: str, repository: Path) -> None:
    """The model is started again after each death, from the same files, and the other step's process stays."""

    async def test(serving: Serving) -> None:
        digests = {m: model_digest(repository / m / "1") for m in ("m_1", "m_2")}
        others = processes_of(repository, "m_1")
        blobs = MemoryBlobStore()
        step = InferStep(
            pipeline="gate",
            route=lambda frame: ROUTE,
            inference=serving.inference,
            blobs=blobs,
            clock=system_clock,
            retries=Retries(),
            concurrency=6,
        )

        async def read(number: int, image: bytes) -> Any:
            event = accepted()
            event = replace(event, frame=replace(event.frame, blob=blobs.put(image, "image/jpeg")))
            why = replace(cause(number, "vision.assessments"), event_id=EventId(f"frame-{number}"))
            while True:
                try:
                    return (await step.prepare(event, why)).answer
                except InferenceUnavailableError:
                    await asyncio.sleep(0.2)

        began_s = time.monotonic()
        outcomes = await asyncio.gather(*(read(n, image) for n, image in enumerate((b"fine", b"die", b"fine", b"fine"))))
        print(f"all four had an outcome after {time.monotonic() - began_s:.1f} s")
        assert [type(o) for o in outcomes] == [Answered, Failed, Answered, Answered]
        assert (outcomes[1].error_class, outcomes[1].step) == ("model_process_died", "look")
        healed = [t for t in serving.told if isinstance(t, ReportModelHealed)]
        assert {(h.model, h.endpoint, h.release) for h in healed} == {("m_2", endpoint, "tiny")}
        assert processes_of(repository, "m_1") == others
        assert {m: model_digest(repository / m / "1") for m in digests} == digests

    on(endpoint, test)


def test_what_is_loaded_is_told_by_name(endpoint: str) -> None:
    """Ensemble and members; a model that was started anew is still one of them, and a release can be loaded again beside it."""

    async def test(serving: Serving) -> None:
        await serving.processes.heal("m_1")
        assert await serving.processes.loaded() == {"tiny", "m_1", "m_2"}
        models = TritonModels(endpoint)
        await models.load("tiny")
        await models.close()
        await serving.processes.probe("tiny")
        await serving.ask(b"fine")

    on(endpoint, test)


def test_a_probe_tells_a_dead_process_and_an_absent_server(endpoint: str) -> None:
    """The model is named, to doctor as well; a server that is not there is away."""

    async def test() -> None:
        serving = TritonInference(endpoint, timeout_s=5)
        processes, nobody = TritonProcesses(endpoint), TritonProcesses("127.0.0.1:9")
        try:
            with pytest.raises(ModelProcessDiedError):
                await serving.infer("tiny", b"die", {})
            with pytest.raises(ModelProcessDiedError) as told:
                await processes.probe("tiny")
            assert (told.value.model, await serving.is_well("tiny")) == ("m_2", False)
            assert await serving_troubles((endpoint,), "tiny") == [f"the process of m_2 at {endpoint} is dead"]
            await processes.heal("m_2")
            await processes.probe("tiny")
            assert await serving.is_well("tiny")
            assert await serving_troubles((endpoint,), "tiny") == []
            assert await serving_troubles((endpoint,), "other") == [f"it is not ready on {endpoint}"]
            for asked in (nobody.probe("tiny"), nobody.loaded(), nobody.heal("m_2")):
                with pytest.raises(InferenceUnavailableError):
                    await asked
        finally:
            for client in (serving, processes, nobody):
                await client.close()

    asyncio.run(test())


def test_a_server_without_models_counts_nothing_and_has_none_ready(endpoint: str) -> None:
    """As one that has just restarted: looking for slow steps there fails no call."""

    async def test() -> None:
        processes, models = TritonProcesses(endpoint), TritonModels(endpoint)
        client = InferenceServerClient(endpoint)
        try:
            assert [s.model for s in await processes.step_times("tiny")] == ["m_1", "m_2", "tiny"]
            for name in ("tiny", "m_1", "m_2"):
                await client.unload_model(name)
            deadline = time.monotonic() + 20
            while await processes.loaded():
                assert time.monotonic() < deadline, await processes.loaded()
                await asyncio.sleep(0.1)
            assert [s.through_count for s in await processes.step_times("tiny")] == [0, 0, 0]
            with pytest.raises(ReleaseNotReadyError):
                await processes.probe("tiny")
            await models.load("tiny")
            await processes.probe("tiny")
        finally:
            for one in (processes, models, client):
                await one.close()

    asyncio.run(test())
