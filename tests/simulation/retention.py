"""The start of vision.results is lost to retention, behind snapshots of the views that read it, which then rest on those."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from processors.snapshots.keeping import Keeper, Ports, Rules
from processors.snapshots.reading import Snapshots
from processors.snapshots.thinning import Policy
from processors.views.catalogue import VIEWS
from schemas.catalogue import RESULTS
from schemas.codec import FixedSchemas
from streams.memory import MemoryBlobStore, MemoryLog
from streams.ports import Stored
from streams.records import Bounds, Clock, Record
from tests.simulation.shape import dice

_RULES = Rules(every_events=4, every_ms=10**9, policy=Policy(all_ms=1000, hourly_ms=1000, daily_ms=1000))


@dataclass(slots=True)
class Retained:
    """The log as everybody reads it: without what retention took."""

    log: MemoryLog
    kept_from: defaultdict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))

    def partitions(self, topic: str) -> tuple[int, ...]:
        return self.log.partitions(topic)

    def bounds(self, topic: str, partition: int) -> Bounds:
        return replace(self.log.bounds(topic, partition), earliest=self.kept_from[topic, partition])

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        return max(self.log.offset_at(topic, partition, at_ms), self.kept_from[topic, partition])

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        return self.log.read(topic, partition, max(start, self.kept_from[topic, partition]), stop)

    def follow(self, topic: str, starts: Mapping[int, int], stopped: Callable[[], bool]) -> Iterator[Record | None]:
        return self.log.follow(topic, starts, stopped)


@dataclass(slots=True)
class Retention:
    """Takes snapshots and thins them, and cuts the log where they allow it.

    Plant: `cuts_too_far` takes none, and cuts all the same.
    """

    seed: int
    log: Retained
    schemas: FixedSchemas
    blobs: MemoryBlobStore
    clock: Clock
    views: tuple[str, ...]
    committed: Callable[[str, int], int]
    plant: str = ""

    async def run(self, during_s: float) -> None:
        rng = dice(self.seed, "retention")
        for _ in range(5):
            await asyncio.sleep(rng.random() * during_s / 2.5)
            for partition in self.log.partitions(RESULTS):
                self._cut(partition)

    def at(self, view: str, partition: int, stop: int) -> Stored | None:
        """A snapshot of a view, as its owner asks for it."""
        if view not in VIEWS:
            return None
        return Snapshots(self.log, self.schemas, self.blobs).whole(VIEWS[view], partition, stop)

    def _cut(self, partition: int) -> None:
        to = end = self.log.bounds(RESULTS, partition).end
        if self.plant != "cuts_too_far":
            to = min((self._kept(name, partition) for name in self.views), default=end)
        self.log.kept_from[RESULTS, partition] = max(self.log.kept_from[RESULTS, partition], to)

    def _kept(self, name: str, partition: int) -> int:
        """Where the newest snapshot ends that an owner may begin at, after what is due was taken, and thinned.

        Retention is slower than anybody who reads: it never takes what an owner has yet to come to, nor the snapshot for it.
        """
        append = self.log.log.append_now
        ports = Ports(log=self.log, schemas=self.schemas, blobs=self.blobs, append=append, clock=self.clock)
        keeper = Keeper(VIEWS[name], partition, ports, _RULES)
        while keeper.step() is not None:
            pass
        committed = self.committed(name, partition)
        if all(offset <= committed for offset in self._ends(name, partition)):
            keeper.thin()
        return max((offset for offset in self._ends(name, partition) if offset <= committed), default=0)

    def _ends(self, name: str, partition: int) -> list[int]:
        return [one.offset for one in Snapshots(self.log, self.schemas, self.blobs).names(VIEWS[name], partition, [])]
