"""A seeded world: devices that send, a log, steps that own partitions, and everything that goes wrong.

The steps and `PartitionRunner` are the real ones. After `faulty_s` of bad weather the world heals, every partition
gets one owner, and it must converge: `run` returns when every step has acknowledged all there is. `checks` then says
whether what stands is true.
"""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from processors.assess.core import Limits
from processors.assess.step import AssessStep
from processors.derive.step import DeriveStep
from processors.infer.core import Route
from processors.infer.step import InferStep, Retries
from processors.kept import KeptStates
from processors.redrive.step import RedriveStep
from processors.release.core import INITIAL
from processors.release.step import ReleaseStep
from processors.rules import container_codes
from processors.step import Ports, Step
from processors.views.catalogue import VIEWS
from processors.views.replay import fold_log
from processors.views.step import ViewStep
from schemas.catalogue import RELEASES
from schemas.codec import FixedSchemas
from schemas.errors import TransientError
from schemas.types import FrameRef
from streams.memory import MemoryBlobStore, MemoryLog
from streams.ports import Appender, ViewStore
from tests.simulation import traffic
from tests.simulation.faults import (
    FaultyAppender,
    FaultyBlobs,
    FaultyLog,
    FaultyViewStore,
    ForgetfulViewStore,
    Life,
    ScriptedInference,
    Watch,
    Weather,
)
from tests.simulation.owners import GroupRecord, Made, Owner

PIPELINE = "gate"
STEPS = ("assess", "infer", "derive", "release", "redrive", *VIEWS)
_CONVERGE_S = 600.0
_IDLE_S = 12.0
_CAUGHT_UP_EVERY_S = 5.0
_START_US = 1_790_000_000_000_000


@dataclass(slots=True)
class World:
    """One run. `plant` names a bug of the world (see `faults` and `owners`); without one all must be well."""

    seed: int
    plant: str = ""
    faulty_s: float = 8.0
    partitions: int = 2
    rng: random.Random = field(init=False)
    weather: Weather = field(init=False)
    log: MemoryLog = field(init=False)
    blobs: MemoryBlobStore = field(default_factory=MemoryBlobStore)
    views: ForgetfulViewStore = field(default_factory=ForgetfulViewStore)
    schemas: FixedSchemas = field(default_factory=FixedSchemas)
    watch: Watch = field(default_factory=Watch)
    sent: "traffic.Sent" = field(init=False)
    groups: dict[str, GroupRecord] = field(default_factory=lambda: {name: GroupRecord() for name in STEPS})
    owners: dict[tuple[str, int], list[Owner]] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)
    _all_on_record: asyncio.Event = field(default_factory=asyncio.Event)
    _routes: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.weather = Weather(
            rng=self.rng,
            trouble=self.rng.choice([0.0, 0.03, 0.15]),
            death=self.rng.choice([0.0, 0.01, 0.05]),
            slow_s=self.rng.choice([0.001, 0.02, 0.1]),
        )
        self.log = MemoryLog(self.clock, partitions=self.partitions)

    def clock(self) -> int:
        """Microseconds since the epoch, on the loop's own time."""
        return _START_US + int(asyncio.get_running_loop().time() * 1e6)

    async def run(self) -> None:
        """Bad weather, then healing, then everything read to its end."""
        random.seed(self.seed)
        self.sent = traffic.Sent(self.rng, self.log, self.blobs, self.schemas, self.clock, PIPELINE)
        for name in STEPS:
            for partition in self.log.partitions(self._topic(name)):
                self.owners[name, partition] = [self._new_owner(name, partition)]
        beside = [asyncio.create_task(self._commit_now_and_then()), asyncio.create_task(self._keep_caught_up())]
        await asyncio.gather(self.sent.everything(self.faulty_s), self._chaos())
        self.weather.healed = True
        await self._one_owner_each()
        await self._converge()
        for task in beside:
            task.cancel()
        for owners in self.owners.values():
            for owner in owners:
                await owner.ended()

    def _topic(self, name: str) -> str:
        return self._step(name, Weather(rng=self.rng, trouble=0, death=0, slow_s=0), self.log, self.views).topic

    def _step(self, name: str, weather: Weather, appender: Appender, views: ViewStore) -> Step[Any]:
        blobs = FaultyBlobs(self.blobs, weather)
        match name:
            case "assess":
                return AssessStep(blobs, limits=Limits(), max_bytes=1 << 20, max_pixels=1 << 20)
            case "infer":
                return InferStep(
                    pipeline=PIPELINE,
                    route=self._route,
                    inference=ScriptedInference(traffic.answer, traffic.DIGEST, weather),
                    blobs=blobs,
                    clock=self.clock,
                    retries=Retries(attempts_max=1 if self.seed % 2 else 3),
                    concurrency=6,
                )
            case "derive":
                return DeriveStep(container_codes)
            case "release":
                return ReleaseStep()
            case "redrive":
                return RedriveStep(FaultyLog(self.log, weather), appender, views, self.schemas, attempts_max=2)
            case _:
                return ViewStep(VIEWS[name])

    def _new_owner(self, name: str, partition: int) -> Owner:
        return Owner(self._made(name), partition, self.groups[name], self.log, plant=self.plant)

    def _made(self, name: str) -> Made:
        life = Life(self.weather)
        appender = FaultyAppender(self.log, life, plant=self.plant)
        views = FaultyViewStore(self.views, life, self.watch, plant=self.plant)
        ports: Ports[Any] = Ports(
            log=FaultyLog(self.log, self.weather),
            appender=appender,
            views=views,
            schemas=self.schemas,
            clock=self.clock,
        )
        return self._step(name, self.weather, appender, views), ports, life

    def _route(self, frame: FrameRef) -> Route:
        end = self.log.bounds(RELEASES, 0).end
        if end not in self._routes:
            states: Mapping[str, Any] = fold_log(VIEWS["releases"], self.log, self.schemas, 0, end).states
            self._routes[end] = states.get(PIPELINE, INITIAL)
        state = self._routes[end]
        return Route(release=state.in_force, parameters=state.thresholds(), pins=state.pins(), releases_offset=end)

    async def _chaos(self) -> None:
        """Deaths, rebalances, partitions that come back, redelivery, and a view store that forgets."""
        loop = asyncio.get_running_loop()
        calm = self.rng.choice([0.1, 0.4, 2.0])
        while loop.time() < self.faulty_s:
            await asyncio.sleep(self.rng.random() * calm)
            place = self.rng.choice(sorted(self.owners))
            owners = self.owners[place]
            self._bury(place)
            match self.rng.choice(["new", "new", "back", "rewind", "die", "flush"]):
                case "new":
                    self._hand_over(place, self._new_owner(*place))
                case "back" if owners:
                    owner = self.rng.choice(owners)
                    self._hand_over(place, owner)
                    owner.regain()
                case "rewind" if owners and owners[-1].holds:
                    owners[-1].regain()
                case "die" if owners:
                    self.rng.choice(owners).end()
                case "flush" if self.rng.random() < 0.2:
                    self.views.flush(self.plant)
                    self.watch.flushed()
            self._bury(place)
            if not self.owners[place]:
                self._hand_over(place, self._new_owner(*place))

    def _hand_over(self, place: tuple[str, int], to: Owner) -> None:
        """The partition goes to one owner; whoever had it is a zombie from now on."""
        others = [o for o in self.owners[place] if o is not to]
        for owner in others:
            owner.commit() if self.rng.random() < 0.5 else None
            owner.lose()
        self.owners[place] = [*others, to][-3:]
        for forgotten in others[: max(0, len(others) - 2)]:
            forgotten.end()

    def _bury(self, place: tuple[str, int]) -> None:
        for owner in self.owners[place]:
            if owner.failure is not None:
                self.failures.append(owner.failure)
        self.owners[place] = [o for o in self.owners[place] if not o.life.dead]

    async def _one_owner_each(self) -> None:
        for place, owners in sorted(self.owners.items()):
            for owner in owners:
                await owner.ended()
            self._bury(place)
            if self.plant != "nobody_comes" or place[0] != "derive":
                self.owners[place] = [self._new_owner(*place)]

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.rng.random())
            for place in sorted(self.owners):
                for owner in self.owners[place]:
                    owner.commit()
            if self.weather.healed and self.settled():
                self._all_on_record.set()

    async def _keep_caught_up(self) -> None:
        """As `topology.caught_up` does: a view store that lost what was acknowledged is filled, also when no record comes."""
        while True:
            await asyncio.sleep(_CAUGHT_UP_EVERY_S)
            for (name, partition), owners in sorted(self.owners.items()):
                ports: Ports[Any] = Ports(
                    log=self.log, appender=self.log, views=self.views, schemas=self.schemas, clock=self.clock
                )
                for owner in owners[:1]:
                    with suppress(TransientError):
                        await KeptStates(owner.step, ports, partition).load((), self.groups[name].committed[partition])

    async def _converge(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_on_record.wait(), _CONVERGE_S)
        for place in self.owners:
            self._bury(place)
        await asyncio.sleep(_IDLE_S)

    def settled(self) -> bool:
        """Whether every step's group has every partition's end on record."""
        return all(
            self.groups[name].committed[partition] == self.log.bounds(owners[0].step.topic, partition).end
            for (name, partition), owners in self.owners.items()
            if owners
        ) and all(self.owners.values())
