"""The models of the world: servers that load releases, late or not at all, the real loader, and who reads a frame."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from processors.release.core import INITIAL, PipelineReleases, fold
from processors.repeats import Seen, writer_of
from schemas.catalogue import RELEASES
from schemas.codec import Schemas, decode
from schemas.errors import (
    ContractError,
    InferenceTimeoutError,
    InferenceUnavailableError,
    ReleaseNotReadyError,
    StepFailedError,
)
from streams.memory import MemoryLog
from streams.ports import Answer
from tests.simulation.faults import Weather

ENDPOINTS = ("one:8001", "two:8001")


def digest_of(release: str) -> str:
    """The content of a release's one model."""
    return hashlib.sha256(release.encode()).hexdigest()


@dataclass(slots=True)
class TwinServer:
    """One inference server. It forgets what it loaded when it starts anew."""

    endpoint: str
    weather: Weather
    loaded: set[str] = field(default_factory=set)

    async def is_ready(self, release: str) -> bool:
        await self.weather.delay()
        if self.weather.strikes(self.weather.trouble):
            raise InferenceUnavailableError("no server")
        return release in self.loaded

    async def load(self, release: str) -> None:
        await asyncio.sleep(self.weather.rng.random() * 20 * self.weather.slow_s)
        if self.weather.strikes(self.weather.trouble):
            raise InferenceUnavailableError("no server")
        if self.weather.strikes(4 * self.weather.trouble):
            raise ContractError(f"{release} cannot be loaded: no memory")
        self.loaded.add(release)


class ScriptedInference:
    """Reads nothing: answers what the script says for an image, late, in any order, sometimes not at all, and sometimes with
    another content than the release's, as after somebody changed the files of a model version."""

    def __init__(self, script: Callable[[bytes], Mapping[str, Any]], servers: tuple[TwinServer, ...], weather: Weather) -> None:
        self._script, self._servers, self._weather = script, servers, weather

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        weather = self._weather
        await asyncio.sleep(weather.rng.random() * 10 * weather.slow_s)
        if weather.strikes(weather.trouble):
            raise weather.rng.choice(
                [
                    InferenceUnavailableError("no server"),
                    InferenceTimeoutError("too late"),
                    StepFailedError("step recognizer (model recognizer) failed", step="recognizer"),
                ]
            )
        server = next((s for s in self._servers if release in s.loaded), None)
        if server is None:
            raise ReleaseNotReadyError(f"no server has {release}")
        digest = "changed" if weather.strikes(weather.trouble) else digest_of(release)
        step = {"step": "recognizer", "model": "recognizer", "version": 1, "variant": "scripted", "digest": digest}
        report = {"steps": [step], "runtime": {"release": release}}
        return Answer(
            result_json=json.dumps(self._script(image)).encode(),
            report_json=json.dumps(report).encode(),
            endpoint=server.endpoint,
        )


class Following:
    """What a `ReleaseFollower` knows, without its thread: the fold of vision.releases as far as it has read.

    Plants: `trials_never_end` keeps a release on trial for ever; `knows_the_future` names an offset that is not there yet.
    """

    def __init__(self, log: MemoryLog, schemas: Schemas, pipeline: str, *, plant: str = "") -> None:
        self._log, self._schemas, self._pipeline, self._plant = log, schemas, pipeline, plant
        self._states: list[PipelineReleases] = [INITIAL]
        self._seen = Seen()

    def current(self) -> tuple[PipelineReleases, int]:
        end = self._log.bounds(RELEASES, 0).end
        return self.at(end), end + (self._plant == "knows_the_future")

    def at(self, offset: int) -> PipelineReleases:
        """The state after the records before this offset."""
        for record in self._log.read(RELEASES, 0, len(self._states) - 1, offset):
            state = self._states[-1]
            try:
                event = decode(record.value, RELEASES, self._schemas)
            except ContractError:
                event = None
            if event is not None and not self._seen.is_repeat(event, writer_of(record)):
                self._seen = self._seen.with_event(event, writer_of(record))
                after = fold(state, event) if event.pipeline == self._pipeline else state
                state = self._kept(state, after)
            self._states.append(state)
        return self._states[offset]

    def _kept(self, before: PipelineReleases, after: PipelineReleases) -> PipelineReleases:
        if self._plant == "trials_never_end" and before.rollout is not None and after.rollout is None:
            return replace(after, rollout=before.rollout)
        return after
