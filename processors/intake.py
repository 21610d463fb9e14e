"""Takes a partition's records in, in order: holes filled from the log, decoded, and put in line, prepared by steps that ask.

The consumer is not trusted to hand over every record (a rebalance drops what was fetched, and does not always seek back): a
record that nobody acknowledged and that did not come is read from the log, before the one that came after it, or when a
while goes by in which nothing comes. `partition` takes from the line what is ready, and makes room.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import structlog

from processors.kept import KeptStates
from processors.metrics import IN_FLIGHT, LEFT_OUT
from processors.patience import patiently
from processors.redriven import REDRIVER, Redriven, redriven_of
from processors.repeats import writer_of
from processors.step import Asking, Cause, Ports, Prepared, Step
from processors.tracing import consuming
from schemas.catalogue import FRAMES
from schemas.envelope import header
from schemas.errors import ContractError, TransientError
from schemas.types import SourcePosition
from streams.records import Clock, Record

S = TypeVar("S")
Acknowledge = Callable[[Record], Any]
log = structlog.get_logger()
_FILL_RECORDS = 200


@dataclass(slots=True, kw_only=True)
class Item:
    """One record in line. `event` is None when it is for another reader, or cannot be used: then `trouble` says why.

    `told` is what its repeats are told by, and by way of which writer; None when it is not for this reader.
    """

    record: Record
    acknowledge: Acknowledge
    event: Any = None
    key: str | None = None
    told: tuple[Any, str] | None = None
    trouble: ContractError | None = None
    redriven: Redriven | None = None
    is_for_another: bool = False
    prepared: "asyncio.Task[Prepared] | None" = None
    _cause: Cause | None = None

    @property
    def is_ready(self) -> bool:
        return self.prepared is None or self.prepared.done()

    def believe(self, is_counted: bool) -> None:
        """What the state knows of a copy's original goes before what the copy says."""
        if self.redriven is not None and self.redriven.was_counted != is_counted:
            self.redriven = replace(self.redriven, was_counted=is_counted)
            self._cause = None if self._cause is None else replace(self._cause, redriven=self.redriven)

    def cause(self, clock: Clock) -> Cause:
        """What follows from the record rests on this; the same whenever it is asked for."""
        if self._cause is None:
            self._cause = self._made_cause(clock())
        return self._cause

    def _made_cause(self, now_us: int) -> Cause:
        record, event = self.record, self.event
        own_id = event.event_id if hasattr(event, "event_id") else event.command_id
        return Cause(
            position=SourcePosition(topic=record.topic, partition=record.partition, offset=record.offset, index=0),
            event_id=own_id,
            correlation_id=header(record.headers, "ce_correlationid") or own_id,
            traceparent=header(record.headers, "traceparent"),
            now_us=now_us,
            redriven=self.redriven,
        )


class Intake(Generic[S]):
    """The line of one partition.

    Args:
        window: Most records in line, or taken from it and not done.
        committed: Asks the group for the next offset that it would begin at; blocks. Without it, whoever hands records
            over is trusted to leave out only what was acknowledged.
    """

    def __init__(
        self,
        step: Step[S],
        ports: Ports[S],
        partition: int,
        kept: KeptStates[S],
        *,
        window: int,
        committed: Callable[[], int] | None,
    ) -> None:
        self.line: deque[Item] = deque()
        self._step = step
        self._asking: Asking | None = step if isinstance(step, Asking) else None
        self._ports = ports
        self._partition = partition
        self._kept = kept
        self._window = self._room = window
        self._more_room = asyncio.Event()
        self._committed = committed
        self._in_turn = asyncio.Lock()
        self._some = asyncio.Event()
        self._next: int | None = None
        self._at_last_look: tuple[int | None, int] | None = None
        place = (step.name, str(partition))
        self._in_flight, self._left_out = IN_FLIGHT.labels(*place), LEFT_OUT.labels(*place)

    async def submit(self, records: Sequence[Record], acknowledge: Acknowledge) -> None:
        """Take records, and before each what the consumer left out; waits while the window is full."""
        async with self._in_turn:
            for record in records:
                if self._committed is not None and (self._next is None or record.offset > self._next):
                    await self._patiently("fill", lambda stop=record.offset: self._fill(stop))  # type: ignore[misc]
                if not self._room or not self._take_at_once(record, acknowledge):
                    await self._take(record, acknowledge)
                if self._next is None or record.offset >= self._next:
                    self._next = record.offset + 1
            self._measure()

    async def look(self, end: int) -> None:
        """Called now and then: take from the log what the consumer did not hand over since the last look, and nothing after it.

        Args:
            end: Offset after the last record that the consumer knows of.
        Raises:
            TransientError: the log or the group does not answer.
        """
        if self._in_turn.locked() or self._committed is None:
            return
        last, self._at_last_look = self._at_last_look, (self._next, end)
        if last is not None and last[0] == self._next and (self._next is None or last[1] > self._next):
            async with self._in_turn:
                await self._fill(last[1])

    async def some(self, within_s: float) -> bool:
        """Wait until something is in line; False when nothing came."""
        if not self.line:
            self._some.clear()
            try:
                async with asyncio.timeout(within_s):
                    await self._some.wait()
            except TimeoutError:
                return False
        return True

    def done(self, items: Sequence[Item]) -> None:
        """Acknowledge, and make room."""
        for item in items:
            item.acknowledge(item.record)
        self._room += len(items)
        self._more_room.set()
        self._measure()

    def clear(self) -> None:
        """Give up what is in line; nothing of it was acknowledged."""
        for item in self.line:
            if item.prepared is not None:
                item.prepared.cancel()
        self.line.clear()

    async def _fill(self, stop: int) -> None:
        """Take from the log the records before `stop` that did not come and that nobody acknowledged."""
        assert self._committed is not None, "only a consumer that leaves records out is filled in for"
        earliest = (await asyncio.to_thread(self._ports.log.bounds, self._step.topic, self._partition)).earliest
        start = max(self._next or 0, earliest, await asyncio.to_thread(self._committed))
        if start < stop:
            log.warning("left out", processor=self._step.name, partition=self._partition, start=start, stop=stop)
        for low in range(start, stop, _FILL_RECORDS):
            high = min(stop, low + _FILL_RECORDS)
            for record in await asyncio.to_thread(self._read, low, high):
                await self._take(record, _unasked)
                self._left_out.inc()
            self._next = high
        self._next = max(start, stop)

    def _read(self, start: int, stop: int) -> list[Record]:
        return list(self._ports.log.read(self._step.topic, self._partition, start, stop))

    def _take_at_once(self, record: Record, acknowledge: Acknowledge) -> bool:
        """Put a record in line, if there is nothing to wait for: as it is with nearly all of them."""
        if redriven_of(record) is not None:
            return False
        item = Item(record=record, acknowledge=acknowledge)
        try:
            self._decode(item)
        except TransientError:
            return False
        self._put(item)
        return True

    async def _take(self, record: Record, acknowledge: Acknowledge) -> None:
        while not self._room:
            self._measure()
            self._more_room.clear()
            await self._more_room.wait()
        if self._take_at_once(record, acknowledge):
            return
        redriven = redriven_of(record)
        if redriven is not None and record.topic == FRAMES:
            asked = await self._patiently("redrive", partial(asyncio.to_thread, self._kept.was_asked_for, redriven))
            redriven = redriven if asked else None
        item = Item(record=record, acknowledge=acknowledge, redriven=redriven)
        if item.redriven is not None and item.redriven.reader != self._step.name:
            item.is_for_another = True
        else:
            # Where the registry is away, the partition waits for it.
            await self._patiently("decode", lambda: asyncio.to_thread(self._decode, item))
        self._put(item)

    def _measure(self) -> None:
        self._in_flight.set(self._window - self._room)

    def _decode(self, item: Item) -> None:
        try:
            item.event, item.key = self._kept.decode(item.record)
        except ContractError as error:
            item.trouble = error

    def _put(self, item: Item) -> None:
        self._room -= 1
        self.line.append(item)
        self._some.set()
        if item.event is None:
            return
        item.told = (item.event, writer_of(item.record)) if item.redriven is None else (item.redriven, REDRIVER)
        if self._asking is not None:
            cause = item.cause(self._ports.clock)
            item.prepared = asyncio.create_task(self._prepare(self._asking, item.event, cause, item.record))

    async def _prepare(self, asking: Asking, event: Any, cause: Cause, record: Record) -> Prepared:
        with consuming(self._step.name, record, cause):
            prepared: Prepared = await self._patiently("prepare", lambda: asking.prepare(event, cause))
            return prepared

    async def _patiently(self, what: str, work: Callable[[], Any]) -> Any:
        return await patiently(self._step.name, self._partition, what, work)


def _unasked(record: Record) -> None:
    """Acknowledges nothing: the group goes on over a record that it never handed out."""
