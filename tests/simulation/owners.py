"""A consumer group in miniature: who owns a partition of a step, what it was given, and what the group has on record.

It behaves as Kafka and Faust do: a partition's offset on record is the first one that its owner did not acknowledge, it
is written now and then, and whoever gets the partition starts there. An owner that lost its partition may go on for a
while without knowing (a zombie); what it acknowledges no longer counts.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from processors.partition import PartitionRunner
from processors.step import Ports, Step
from tests.simulation.faults import Life, WatchedLog

_POLL_S = 0.2
Made = tuple[Step[Any], Ports[Any], Life]


@dataclass(slots=True)
class GroupRecord:
    """What the broker keeps for one step: the next offset of each partition."""

    committed: dict[int, int] = field(default_factory=lambda: defaultdict(int))


class Owner:
    """One process that owns, or believes to own, one partition of one step.

    Plant: `early_ack` acknowledges a record before it is worked on.
    """

    def __init__(self, made: Made, partition: int, group: GroupRecord, log: WatchedLog, *, plant: str = "") -> None:
        self.step, ports, self.life = made
        self.partition = partition
        self.holds = True
        self.failure: BaseException | None = None
        self._group, self._log, self._plant = group, log, plant
        self._acknowledged: set[int] = set()
        self._next = self._first = group.committed[partition]
        window, batch = (1, 1) if self.step.name == "redrive" else (8, 4)  # as topology.processing has it
        self._runner: PartitionRunner[Any] = PartitionRunner(
            self.step,
            ports,
            partition,
            window=window,
            batch=batch,
            failed=self._failed,
            committed=lambda: group.committed[partition],
        )
        self._rouse = asyncio.Event()
        self._log.watch(self.step.topic, partition, self._rouse)
        self._feeding = asyncio.create_task(self._feed())
        self._ending: asyncio.Task[None] | None = None
        self.life.end = self.end

    def end(self) -> None:
        """Die, now: nothing more is done, and nothing more is acknowledged."""
        if self._ending is None:
            self.life.dead = True
            self.holds = False
            self._ending = asyncio.create_task(self._stop())

    async def ended(self) -> None:
        self.end()
        assert self._ending is not None
        await self._ending

    def lose(self) -> None:
        """The group gave the partition to another; this one does not know, and works on what it has."""
        self.holds = False

    def regain(self) -> None:
        """The partition comes (back) to this process: it is read again from what is on record, into the same runner."""
        self.holds = True
        self._acknowledged.clear()
        self._rouse.set()
        self._next = self._first = self._group.committed[self.partition]

    def commit(self) -> None:
        """Put on record how far everything was acknowledged."""
        if self.holds:
            while self._first in self._acknowledged:
                self._first += 1
            self._group.committed[self.partition] = max(self._group.committed[self.partition], self._first)

    async def _feed(self) -> None:
        while True:
            end = self._log.bounds(self.step.topic, self.partition).end
            if not self.holds or self._next >= end:
                self._rouse.clear()
                await self._rouse.wait()
                await asyncio.sleep(_POLL_S)
                continue
            (record,) = self._log.read(self.step.topic, self.partition, self._next, self._next + 1)
            self._next += 1
            if self._plant == "early_ack":
                self._acknowledged.add(record.offset)
            await self._runner.submit([record], lambda done: self._acknowledged.add(done.offset))

    async def _stop(self) -> None:
        self._log.unwatch(self.step.topic, self.partition, self._rouse)
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)
        await self._runner.stop()

    def _failed(self, error: BaseException) -> None:
        self.failure = error
        self.end()
