"""A seeded world: devices that send, a log, steps that own partitions, and everything that goes wrong.

The steps and `PartitionRunner` are the real ones. After `faulty_s` of bad weather the world heals, every partition
gets one owner, and it must converge: `run` returns when every step has acknowledged all there is. `checks` then says
whether what stands is true.
"""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from processors.assess.core import Limits
from processors.assess.step import AssessStep
from processors.derive.step import DeriveStep
from processors.erase.step import EraseStep
from processors.infer.step import InferStep, Retries
from processors.redrive.step import RedriveStep
from processors.release.loader import ReleaseLoader
from processors.release.state import SHADOW
from processors.release.step import ReleaseStep
from processors.rollout.sampling import SamplingStep
from processors.rollout.trial import JudgeStep
from processors.rules import container_codes
from processors.shadow.step import ShadowStep
from processors.step import Ports, Step
from processors.views.catalogue import VIEWS
from processors.views.step import ViewStep
from schemas.catalogue import CANDIDATES, INFERENCES, RESULTS
from schemas.codec import FixedSchemas
from streams.memory import MemoryBlobStore
from streams.ports import Appender, ViewStore
from streams.publishing import FramePublisher
from streams.records import Clock, Record
from tests.simulation import traffic
from tests.simulation.edge import Edge
from tests.simulation.faults import (
    FaultyAppender,
    FaultyBlobs,
    FaultyLog,
    FaultyViewStore,
    ForgetfulViewStore,
    Life,
    SteppingClock,
    Watch,
    WatchedLog,
    Weather,
)
from tests.simulation.owners import GroupRecord, Made, Owner
from tests.simulation.retention import Retained, Retention
from tests.simulation.serving import ENDPOINTS, Following, ScriptedInference, TwinServer
from tests.simulation.shape import Shape, dice
from topology.processing import on_trial, router
from topology.settings import RolloutSettings

PIPELINE = "gate"
TRIALS = ("shadow", "sample_inferences", "sample_candidates", "judge")
STEPS = ("assess", "infer", "derive", "release", "redrive", "erase", *TRIALS, *VIEWS)
_ALWAYS = ("frame_outcomes", "results_by_frame", "device_frames")  # which the checks count by
_VIEW_SHARE = 0.4
_CONVERGE_S = 600.0
_IDLE_S = 12.0
_QUICK = RolloutSettings(units_min=1, units_max=20)
_START_US = 1_790_000_000_000_000


@dataclass(slots=True)
class World:
    """One run. `plant` names a bug of the world (see `faults` and `owners`); without one all must be well."""

    seed: int
    plant: str = ""
    shape: Shape = field(default_factory=Shape)
    partitions: int = 2
    rng: random.Random = field(init=False)
    weather: Weather = field(init=False)
    log: WatchedLog = field(init=False)
    blobs: MemoryBlobStore = field(default_factory=MemoryBlobStore)
    views: ForgetfulViewStore = field(default_factory=ForgetfulViewStore)
    schemas: FixedSchemas = field(default_factory=FixedSchemas)
    watch: Watch = field(default_factory=Watch)
    sent: "traffic.Sent" = field(init=False)
    groups: dict[str, GroupRecord] = field(init=False)
    owners: dict[tuple[str, int], list[Owner]] = field(default_factory=dict)
    decoded: dict[str, list[tuple[Record, Any]]] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)
    servers: tuple[TwinServer, ...] = field(init=False)
    following: Following = field(init=False)
    retained: Retained = field(init=False)
    retention: Retention = field(init=False)
    edge: Edge | None = None
    _all_on_record: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.rng = dice(self.seed, "owners")
        views = dice(self.seed, "views")
        beside = {name for name in VIEWS if name not in _ALWAYS and views.random() > _VIEW_SHARE}
        self.groups = {name: GroupRecord() for name in STEPS if name not in beside}
        drawn = dice(self.seed, "weather")
        self.weather = self._weather(
            drawn.choice([0.0, 0.03, 0.15]), drawn.choice([0.0, 0.01, 0.05]), drawn.choice([0.001, 0.02, 0.1])
        )
        self.log = WatchedLog(self.clock, partitions=self.partitions)
        of_servers = self.weather if self.shape.has("loads") else self._weather(0.0, 0.0, 0.001)
        self.servers = tuple(TwinServer(endpoint, of_servers) for endpoint in ENDPOINTS)
        self.retained = Retained(self.log)
        self.retention = Retention(
            self.seed,
            self.retained,
            self.schemas,
            self.blobs,
            self.clock,
            tuple(name for name, view in VIEWS.items() if view.topic == RESULTS and name in self.groups),
            self._come_past,
            plant=self.plant,
        )
        self.following = Following(self.log, self.schemas, PIPELINE, plant=self.plant)

    def _weather(self, trouble: float, death: float, slow_s: float) -> Weather:
        return Weather(
            rng=dice(self.seed, "strikes"),
            trouble=trouble if self.shape.has("trouble") else 0.0,
            death=death if self.shape.has("death") else 0.0,
            slow_s=slow_s if self.shape.has("slow") else 0.001,
        )

    def clock(self) -> int:
        """Microseconds since the epoch, on the loop's own time."""
        return _START_US + int(asyncio.get_running_loop().time() * 1e6)

    async def run(self) -> None:
        """Bad weather, then healing, then everything read to its end."""
        random.seed(self.seed)
        self.sent = traffic.Sent(self.seed, self.shape, self.log, self.blobs, self.schemas, self.clock, PIPELINE)
        for name in self.groups:
            for partition in self.log.partitions(self._topic(name)):
                self.owners[name, partition] = [self._new_owner(name, partition)]
        committing = asyncio.create_task(self._commit_now_and_then())
        stop = asyncio.Event()
        loading = asyncio.create_task(self._loader().run(stop))
        healed = asyncio.Event()
        edge = asyncio.create_task(self._edge(healed))
        await asyncio.gather(self.sent.everything(self.shape.faulty_s), self._chaos(), self._retaining())
        self.weather.healed = True
        healed.set()
        await edge
        await self._one_owner_each()
        await self._all_settled()
        stop.set()
        await loading
        await self._all_settled()
        for place in self.owners:
            self._bury(place)
        await asyncio.sleep(_IDLE_S)
        committing.cancel()
        for owners in self.owners.values():
            for owner in owners:
                await owner.ended()

    def _topic(self, name: str) -> str:
        return self._step(name, Weather(rng=self.rng, trouble=0, death=0, slow_s=0), self.log, self.views, self.clock).topic

    def _step(self, name: str, weather: Weather, appender: Appender, views: ViewStore, clock: Clock) -> Step[Any]:
        blobs = FaultyBlobs(self.blobs, weather, plant=self.plant)
        inference = ScriptedInference(traffic.answer, self.servers, weather)
        match name:
            case "assess":
                return AssessStep(blobs, limits=Limits(), max_bytes=1 << 20, max_pixels=1 << 20)
            case "infer":
                return InferStep(
                    pipeline=PIPELINE,
                    route=router(self.following),  # type: ignore[arg-type]  # as a follower, without its thread
                    inference=inference,
                    blobs=blobs,
                    clock=clock,
                    retries=Retries(attempts_max=1 if self.seed % 2 else 3),
                    concurrency=6,
                )
            case "shadow":
                route = on_trial(self.following)  # type: ignore[arg-type]
                return ShadowStep(
                    rules=container_codes, route=route, inference=inference, blobs=blobs, clock=clock, concurrency=3
                )
            case "sample_inferences" | "sample_candidates":
                return SamplingStep(container_codes, name=name, topic=INFERENCES if name == "sample_inferences" else CANDIDATES)
            case "judge":
                return JudgeStep(lambda kind: _QUICK.plan(paired=kind == SHADOW))
            case "erase":
                return EraseStep(FaultyLog(self.retained, weather), self.schemas, blobs, clock)
            case "derive":
                return DeriveStep(container_codes)
            case "release":
                return ReleaseStep()
            case "redrive":
                return RedriveStep(FaultyLog(self.retained, weather), appender, views, self.schemas, attempts_max=2)
            case _:
                return ViewStep(VIEWS[name])

    def _new_owner(self, name: str, partition: int) -> Owner:
        return Owner(self._made(name), partition, self.groups[name], self.log, plant=self.plant)

    def _made(self, name: str) -> Made:
        life = Life(self.weather)
        appender = FaultyAppender(self.log, life, plant=self.plant)
        views = FaultyViewStore(self.views, life, self.watch, plant=self.plant)
        clock = SteppingClock(self.clock, self.rng, steps=self.shape.has("clocks"))
        ports: Ports[Any] = Ports(
            log=FaultyLog(self.retained, self.weather),
            appender=appender,
            views=views,
            schemas=self.schemas,
            clock=clock,
            snapshot=self.retention.at,
        )
        return self._step(name, self.weather, appender, views, clock), ports, life

    def _come_past(self, name: str, partition: int) -> int:
        """How far every owner has come; while there is a zombie nobody can say."""
        return self.groups[name].committed[partition] if len(self.owners[name, partition]) == 1 else 0

    async def _retaining(self) -> None:
        if self.shape.has("retention"):
            await self.retention.run(self.shape.faulty_s)

    async def _edge(self, healed: asyncio.Event) -> None:
        if not self.shape.has("edge"):
            return
        appender = FaultyAppender(self.log, Life(self.weather, mortal=False))
        publisher = FramePublisher(appender=appender, blobs=self.blobs, schemas=self.schemas, clock=self.clock, channel="grpc")
        clock = SteppingClock(self.clock, dice(self.seed, "edge clock"), steps=self.shape.has("clocks"))
        pictures = (traffic.picture(n % len(traffic.CODES)) + f"edge {n}".encode() for n in count())
        self.edge = Edge(self.seed, self.shape, publisher, clock, self.weather, pictures, plant=self.plant)
        await self.edge.run(self.shape.faulty_s, healed)
        self.sent.frames |= self.edge.published

    def _loader(self) -> ReleaseLoader:
        """The real one, with a producer of its own that does not die."""
        life = Life(self.weather, mortal=False)
        return ReleaseLoader(
            pipeline=PIPELINE,
            state=lambda: self.following.current()[0],
            servers=self.servers,
            appender=FaultyAppender(self.log, life),
            schemas=self.schemas,
            clock=self.clock,
        )

    async def _chaos(self) -> None:
        """Deaths, rebalances, partitions that come back, redelivery, and a view store that forgets."""
        loop = asyncio.get_running_loop()
        calm = self.rng.choice([0.1, 0.4, 2.0])
        while loop.time() < self.shape.faulty_s:
            await asyncio.sleep(self.rng.random() * calm)
            place = self.rng.choice(sorted(self.owners))
            owners = self.owners[place]
            self._bury(place)
            kind = self.rng.choice(["new", "new", "back", "rewind", "die", "flush", "loads"])
            match kind if self.shape.has(kind) else "":
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
                case "loads":
                    self.rng.choice(self.servers).loaded.clear()
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

    async def _all_settled(self) -> None:
        """Nothing is asked of owners that ended: what is stuck stays so, and is told."""
        self._all_on_record.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_on_record.wait(), _CONVERGE_S)

    def settled(self) -> bool:
        """Whether every step's group has every partition's end on record."""
        return all(
            self.groups[name].committed[partition] == self.log.bounds(owners[0].step.topic, partition).end
            for (name, partition), owners in self.owners.items()
            if owners
        ) and all(self.owners.values())
