"""Looks whether what the inference servers have loaded works, and agrees with the log; mends the one, and reports both.

A server whose model process died says that it is ready, and fails every frame that needs it. So the releases that read are
probed by inference, and a dead process is started anew. What came of it is a command, so that one writer decides what it
means: the release processor, which acts next. The loader loads what is missing.

Guarantees: a model is started anew only when two probes in a row say that its process is dead; its files are not touched, and
the other models stay up. Each death is reported once by each worker that mended it, when a release that uses the model answers
again; one that dies again and again is started less and less often. A difference is reported when it changes, and only when it
lasts for two looks.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial

import structlog
from prometheus_client import Counter, Gauge

from processors.release.loader import asked_for, command_record, wanted
from processors.release.state import Difference, PipelineReleases
from schemas.codec import Schemas
from schemas.errors import ContractError, InferenceTimeoutError, ModelProcessDiedError, TransientError
from schemas.events import ReportLoadedModels, ReportModelHealed
from schemas.types import EventId
from streams.ports import Appender, ModelProcesses
from streams.records import Clock

HEALED = Counter("hindsight_model_healed_total", "Model processes that were started anew.", ("endpoint", "model"))
DOWN = Gauge("hindsight_model_process_dead", "1 while a probe finds a model's process dead.", ("endpoint", "model"))
DIFFERENCES = Gauge(
    "hindsight_loaded_models_difference", "Names loaded other than the log says: missing or unknown.", ("endpoint", "kind")
)
log = structlog.get_logger()
_AGAIN_FIRST_S = 4.0
_AGAIN_MOST_S = 300.0
_WELL_FOR_S = 600.0
_AGREES = Difference(missing=(), unknown=())


@dataclass(slots=True)
class _Death:
    """A dead process: what the server said, and since when it is known."""

    seen: str
    release: str
    since_us: int


@dataclass(slots=True)
class _Healing:
    """How a model was started anew lately. Times are the loop's."""

    pause_s: float
    last_at_s: float


class ModelHealer:
    """Looks after every server for one pipeline. Use it inside one event loop.

    Args:
        state: The newest state known.
        is_ours: Whether it is this worker that looks; of several workers one is enough.
        every_s: Time between two looks at a server.
        keep_loaded: As the loader has it.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        state: Callable[[], PipelineReleases],
        servers: tuple[ModelProcesses, ...],
        appender: Appender,
        schemas: Schemas,
        clock: Clock,
        is_ours: Callable[[], bool] = lambda: True,
        every_s: float = 2.0,
        keep_loaded: int = 4,
    ) -> None:
        self._pipeline = pipeline
        self._state = state
        self._servers = servers
        self._appender = appender
        self._schemas = schemas
        self._clock = clock
        self._is_ours = is_ours
        self._every_s = every_s
        self._keep_loaded = keep_loaded
        self._dead: dict[tuple[str, str], _Death] = {}
        self._healings: dict[tuple[str, str], _Healing] = {}
        self._differed: dict[str, Difference] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Look until told to stop; a server that hangs holds up no other."""
        async with asyncio.TaskGroup() as looks:
            for server in self._servers:
                looks.create_task(self._again_and_again(partial(self.look_after, server), stop))
                looks.create_task(self._again_and_again(partial(self.compare, server), stop))

    async def look_after(self, server: ModelProcesses) -> None:
        """Probe the releases that read, or are about to, and mend what is dead."""
        asked = asked_for(self._state())
        uses = {s.model for release in asked for s in self._state().releases[release].steps}
        own = {p: death for p, death in self._dead.items() if p[0] == server.endpoint}
        self._forget({p for p, death in own.items() if death.release not in asked and p[1] not in uses})
        for release in asked:
            try:
                await server.probe(release)
            except ModelProcessDiedError as error:
                await self._heal(server, release, error)
            except InferenceTimeoutError as error:
                # A server that is busy answers late; what hangs for good is told by the frames' own timeouts.
                log.warning("probe late", endpoint=server.endpoint, release=release, error=str(error))
            except TransientError as error:
                log.debug("not probed", endpoint=server.endpoint, release=release, error=str(error))
            else:
                await self._answers_again(server, release)

    async def compare(self, server: ModelProcesses) -> None:
        """Report how what is loaded differs from what should be, when that has changed and has lasted."""
        found = difference(self._state(), server.endpoint, await server.loaded(), self._keep_loaded)
        DIFFERENCES.labels(server.endpoint, "missing").set(len(found.missing))
        DIFFERENCES.labels(server.endpoint, "unknown").set(len(found.unknown))
        before = self._differed.get(server.endpoint)
        self._differed[server.endpoint] = found
        if found == before and found != self._state().differences.get(server.endpoint, _AGREES):
            log.warning("loaded models", endpoint=server.endpoint, missing=found.missing, unknown=found.unknown)
            await self._report_difference(server.endpoint, found)

    async def _heal(self, server: ModelProcesses, release: str, error: ModelProcessDiedError) -> None:
        place = (server.endpoint, error.model)
        death = self._dead.setdefault(place, _Death(str(error), release, self._clock()))
        DOWN.labels(*place).set(1)
        log.error("model process dead", endpoint=server.endpoint, model=error.model, release=release, seen=death.seen)
        try:
            await server.probe(release)  # somebody else may have mended it, or it was only very busy
        except ModelProcessDiedError as again:
            place = (server.endpoint, again.model)
        else:
            return await self._answers_again(server, release)
        if not self._is_to_be_healed(place):
            return
        try:
            await server.heal(place[1])
        except ContractError as refused:
            log.error("not started anew", endpoint=server.endpoint, model=error.model, error=str(refused))
            return
        await server.probe(release)
        await self._answers_again(server, release)

    def _is_to_be_healed(self, place: tuple[str, str]) -> bool:
        """Now, or later: what starts a process anew leaves something behind each time."""
        now_s, last = asyncio.get_running_loop().time(), self._healings.get(place)
        if last is not None and now_s < last.last_at_s + last.pause_s:
            return False
        is_again = last is not None and now_s < last.last_at_s + _WELL_FOR_S
        pause_s = min(2 * last.pause_s, _AGAIN_MOST_S) if last is not None and is_again else _AGAIN_FIRST_S
        self._healings[place] = _Healing(pause_s, now_s)
        return True

    def _forget(self, places: Collection[tuple[str, str]]) -> None:
        """What nobody looks after any more is told by nobody."""
        for place in places:
            del self._dead[place]
            DOWN.labels(*place).set(0)

    async def _answers_again(self, server: ModelProcesses, release: str) -> None:
        """Report the deaths that kept a release from answering there: those of its models, whichever release met them."""
        uses = {s.model for s in self._state().releases[release].steps}
        over = [p for p, death in self._dead.items() if p[0] == server.endpoint and (death.release == release or p[1] in uses)]
        for place in over:
            await self._report_healed(place, self._dead[place])
            del self._dead[place]
            DOWN.labels(*place).set(0)
            HEALED.labels(*place).inc()

    async def _again_and_again(self, look: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                if self._is_ours():
                    await look()
                else:
                    self._forget(list(self._dead))
                    self._differed.clear()
            except TransientError as error:
                log.warning("healer waits", error=str(error))
            try:
                await asyncio.wait_for(stop.wait(), self._every_s)
            except TimeoutError:
                continue

    async def _report_healed(self, place: tuple[str, str], death: _Death) -> None:
        now_us = self._clock()
        told = ReportModelHealed(
            command_id=EventId(str(uuid.uuid4())),
            pipeline=self._pipeline,
            endpoint=place[0],
            model=place[1],
            release=death.release,
            seen=death.seen[:1000],
            down_us=now_us - death.since_us,
            issued_at_us=now_us,
        )
        await self._appender.append(command_record(told, self._schemas, now_us))

    async def _report_difference(self, endpoint: str, found: Difference) -> None:
        now_us = self._clock()
        told = ReportLoadedModels(
            command_id=EventId(str(uuid.uuid4())),
            pipeline=self._pipeline,
            endpoint=endpoint,
            missing=found.missing,
            unknown=found.unknown,
            issued_at_us=now_us,
        )
        await self._appender.append(command_record(told, self._schemas, now_us))


def difference(state: PipelineReleases, endpoint: str, loaded: frozenset[str], keep_loaded: int) -> Difference:
    """What a server lacks of what the log says that it has, and what it has that no release names.

    What it never had, or failed to load, is told by other events.
    """
    named = {*state.releases, *(s.model for entry in state.releases.values() for s in entry.steps)}
    had = [r for r in wanted(state, keep_loaded) if endpoint in state.releases[r].loaded_on]
    return Difference(missing=tuple(sorted(set(had) - loaded)), unknown=tuple(sorted(loaded - named)))
