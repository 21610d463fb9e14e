"""The world's edges with faults: what one owner of a partition sees of the log, the blobs, the models and the view store.

A fault is drawn before or after the real work, so a write may be done and its answer lost. Dying is a fault too: the
owner is told to die, and the call never comes back. What survives lies behind the edges, in the in-memory twins.

Each class takes a `plant`: the name of a bug that it then has, so that the checkers can be seen to catch it.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

from schemas.catalogue import DEAD_LETTERS
from schemas.errors import (
    BlobStoreUnavailableError,
    LogUnavailableError,
    ViewStoreUnavailableError,
)
from schemas.types import BlobRef
from streams.memory import MemoryBlobStore, MemoryLog, MemoryViewStore
from streams.ports import BlobScope, EventLog, Standing, Stored
from streams.records import Bounds, Clock, Outgoing, Position, Record

_STEPS_US = (0, 0, 0, 400_000, -400_000, 90_000_000, -90_000_000, 7_200_000_000, -7_200_000_000)
_STEPS_SHARE = 0.02


@dataclass(slots=True, kw_only=True)
class Weather:
    """How bad it is now. Probabilities for each call; nothing goes wrong once `healed` is set."""

    rng: random.Random
    trouble: float
    death: float
    slow_s: float
    healed: bool = False

    def strikes(self, probability: float) -> bool:
        return not self.healed and self.rng.random() < probability

    async def delay(self) -> None:
        await asyncio.sleep(self.rng.random() * self.slow_s)


@dataclass(slots=True)
class Life:
    """Whether an owner lives; `end` is called once, when a fault kills it. Some never die."""

    weather: Weather
    mortal: bool = True
    end: Callable[[], None] = lambda: None
    dead: bool = False

    async def risk(self) -> None:
        """Perhaps the owner dies here, and nothing after this point happens."""
        if self.dead or (self.mortal and self.weather.strikes(self.weather.death)):
            await self.die()

    async def die(self) -> NoReturn:
        if not self.dead:
            self.dead = True
            self.end()
        await asyncio.Event().wait()
        raise AssertionError("the dead do not go on")


class WatchedLog(MemoryLog):
    """The log itself, which rouses those who wait for a partition to grow: nobody looks again and again."""

    def __init__(self, clock: Clock, *, partitions: int) -> None:
        super().__init__(clock, partitions=partitions)
        self._waiting: defaultdict[tuple[str, int], list[asyncio.Event]] = defaultdict(list)

    def watch(self, topic: str, partition: int, rouse: asyncio.Event) -> None:
        self._waiting[topic, partition].append(rouse)

    def unwatch(self, topic: str, partition: int, rouse: asyncio.Event) -> None:
        self._waiting[topic, partition].remove(rouse)

    def append_now(self, outgoing: Outgoing) -> Position:
        position = super().append_now(outgoing)
        for rouse in self._waiting[position.topic, position.partition]:
            rouse.set()
        return position


class FaultyAppender:
    """An owner's own producer. When a record is not taken, none that was queued behind it is: no gaps.

    Plants: `gap` lets the later ones through; `overtake` lets a later record go first; `garbage_is_dropped` loses
    what goes to the dead letters; `first_partition` puts everything into one partition.
    """

    def __init__(self, log: MemoryLog, life: Life, *, plant: str = "") -> None:
        self._log, self._life, self._plant = log, life, plant
        self._line: asyncio.Lock = asyncio.Lock()
        self._broken = 0

    def append(self, outgoing: Outgoing) -> Awaitable[Position]:
        return self._append(outgoing, self._broken)

    async def _append(self, outgoing: Outgoing, generation: int) -> Position:
        weather = self._life.weather
        if self._plant == "overtake":
            await weather.delay()
        async with self._line:
            await self._life.risk()
            if generation != self._broken and self._plant != "gap":
                raise LogUnavailableError("a record before this one was not taken")
            if weather.strikes(weather.trouble):
                self._broken += 1
                raise LogUnavailableError("the broker is away")
            if self._plant == "garbage_is_dropped" and outgoing.topic == DEAD_LETTERS:
                return Position(topic=outgoing.topic, partition=0, offset=0)
            if self._plant == "first_partition":
                outgoing = replace(outgoing, partition=0)
            position = self._log.append_now(outgoing)
            await self._life.risk()
            if weather.strikes(weather.trouble):
                self._broken += 1
                raise LogUnavailableError("taken, and the answer was lost")
        await weather.delay()
        return position


class FaultyViewStore:
    """The one view store as an owner reaches it, and a watch on its positions: they never go back, but for a flush.

    Plants: `two_steps` writes states and position apart; `no_comparing` writes without looking at the position.
    """

    def __init__(self, store: MemoryViewStore, life: Life, watch: "Watch", *, plant: str = "") -> None:
        self._store, self._life, self._watch, self._plant = store, life, watch, plant

    async def load(self, view: str, partition: int, keys: tuple[str, ...]) -> Stored:
        await self._trouble()
        stored = await self._store.load(view, partition, keys)
        await self._life.weather.delay()
        return stored

    async def standing(self, view: str, partition: int) -> Standing:
        await self._trouble()
        return await self._store.standing(view, partition)

    async def load_all(self, view: str, partition: int) -> Stored:
        await self._trouble()
        return await self._store.load_all(view, partition)

    async def save(
        self, view: str, partition: int, *, expected: int, position: int, changes: Mapping[str, bytes], digest: str | None = None
    ) -> str | None:
        await self._life.weather.delay()
        await self._trouble()
        await self._life.risk()
        if self._plant == "no_comparing":
            expected, digest = (await self._store.load(view, partition, ())).position, None
        if self._plant == "two_steps":
            if not await self._store.save(view, partition, expected=expected, position=position, changes={}, digest=digest):
                return None
            await self._life.risk()
            expected, digest = position, None
        done = await self._store.save(view, partition, expected=expected, position=position, changes=changes, digest=digest)
        if done is not None:
            self._watch.moved(view, partition, position)
        await self._life.risk()
        await self._trouble()
        return done

    async def replace(self, view: str, partition: int, stored: Stored) -> bool:
        await self._trouble()
        return await self._store.replace(view, partition, stored)

    async def _trouble(self) -> None:
        if self._life.weather.strikes(self._life.weather.trouble):
            raise ViewStoreUnavailableError("the view store is away")


class ForgetfulViewStore(MemoryViewStore):
    """A view store that can be flushed. Plant: `flush_keeps_position` forgets the states only."""

    def flush(self, plant: str) -> None:
        self.forget(states_only=plant == "flush_keeps_position")


@dataclass(slots=True)
class Watch:
    """Positions as they were stored, and where one went back."""

    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    went_back: list[str] = field(default_factory=list)
    flushes: int = 0

    def moved(self, view: str, partition: int, position: int) -> None:
        before = self.positions.get((view, partition), 0)
        if position < before:
            self.went_back.append(f"{view} {partition}: from {before} to {position}")
        self.positions[view, partition] = position

    def flushed(self) -> None:
        self.positions.clear()
        self.flushes += 1


class FaultyBlobs:
    """The blob store as an owner reaches it. Plant: `erased_stays` removes nothing, and says that it is gone."""

    def __init__(self, blobs: MemoryBlobStore, weather: Weather, *, plant: str = "") -> None:
        self._blobs, self._weather, self._plant = blobs, weather, plant

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        return self._blobs.put(content, media_type, scope=scope)

    def get(self, ref: BlobRef) -> bytes:
        if self._weather.strikes(self._weather.trouble):
            raise BlobStoreUnavailableError("the blob store is away")
        return self._blobs.get(ref)

    def exists(self, ref: BlobRef) -> bool:
        return self._plant != "erased_stays" and self._blobs.exists(ref)

    def discard(self, ref: BlobRef) -> None:
        if self._plant == "erased_stays":
            return
        if self._weather.strikes(self._weather.trouble):
            raise BlobStoreUnavailableError("the blob store is away")
        self._blobs.discard(ref)
        if self._weather.strikes(self._weather.trouble):
            raise BlobStoreUnavailableError("removed, and the answer was lost")

    def destroy_keys(self, device_id: str, from_us: int, to_us: int) -> tuple[str, ...]:
        """Nothing is encrypted here."""
        return ()

    def wipe(self, refs: Iterable[BlobRef]) -> None:
        """Nothing lies in segments here."""
        assert not list(refs)


class SteppingClock:
    """A worker's or a device's clock: off by hours, and it steps now and then. The broker's own does not."""

    def __init__(self, clock: Clock, rng: random.Random, *, steps: bool) -> None:
        self._clock, self._rng, self._steps = clock, rng, steps
        self._off_us = rng.choice(_STEPS_US) if steps else 0

    def __call__(self) -> int:
        if self._steps and self._rng.random() < _STEPS_SHARE:
            self._off_us = self._rng.choice(_STEPS_US)
        return self._clock() + self._off_us


class FaultyLog:
    """Reading the log as an owner does."""

    def __init__(self, log: EventLog, weather: Weather) -> None:
        self._log, self._weather = log, weather

    def partitions(self, topic: str) -> tuple[int, ...]:
        return self._log.partitions(topic)

    def bounds(self, topic: str, partition: int) -> Bounds:
        self._trouble()
        return self._log.bounds(topic, partition)

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        self._trouble()
        return self._log.offset_at(topic, partition, at_ms)

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        self._trouble()
        return self._log.read(topic, partition, start, stop)

    def follow(self, topic: str, starts: Mapping[int, int], stopped: Callable[[], bool]) -> Iterator[Record | None]:
        return self._log.follow(topic, starts, stopped)

    def _trouble(self) -> None:
        if self._weather.strikes(self._weather.trouble):
            raise LogUnavailableError("the broker is away")
