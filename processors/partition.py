"""Runs one step over one partition: many frames prepared at once, committed in order, acknowledged last.

    submit -> prepare (up to `window` at once, retried while the world is away)
           -> commit, in order, as many as are ready: load states, drop repeats, decide, append and wait for the broker,
              fold, store states and position in one step
           -> acknowledge

Guarantees: a record is acknowledged only after the broker holds everything that it caused and the view store holds the
state that counts it. After a crash the record comes again; if its state was stored it is passed over, otherwise the
same events with the same ids are appended again, and readers drop them by their source. A stored state that is
behind (a flushed Redis) is caught up from the log without emitting, before the next record or when none comes for a
while; one that is ahead (another owner of the partition) makes this owner pass over what the other has counted. A
commit takes records that follow one another only, so a partition that was away and came back leaves no hole.

The consumer is not trusted to hand over every record (Faust drops what it has fetched at several points of a rebalance,
and does not always seek back): a record that nobody acknowledged and that did not come is read from the log, before the
one that came after it, or when a while goes by in which nothing comes.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from processors.dead_letters import dead_letter
from processors.emit import outgoing
from processors.kept import KeptStates
from processors.metrics import (
    BATCH_RECORDS,
    DEAD_LETTERS,
    EVENTS_OUT,
    IN_FLIGHT,
    LEFT_OUT,
    POSITION,
    RECORDS,
    REPEATS,
    RETRIES,
)
from processors.redriven import is_counted, is_for_another, redriven_of
from processors.repeats import Seen, told_by
from processors.step import NOTHING, Cause, Ports, Prepared, Step
from processors.tracing import consuming, storing
from schemas.envelope import header
from schemas.errors import ConsistencyError, ContractError, HindsightError, TransientError
from schemas.types import SourcePosition
from streams.records import Outgoing, Record

S = TypeVar("S")
log = structlog.get_logger()
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MOST_S = 2.0
_LOOK_WHEN_IDLE_S = 5.0
_FILL_RECORDS = 200


@dataclass(slots=True, kw_only=True)
class _Item:
    record: Record
    event: Any
    cause: Cause | None
    trouble: ContractError | None
    prepared: "asyncio.Task[Prepared] | None"
    acknowledge: Callable[[], Any]


class PartitionRunner(Generic[S]):
    """One step on one partition.

    Args:
        window: Most records prepared or waiting for their turn.
        batch: Most records committed in one go.
        failed: Told when the partition cannot go on; the process should end and be started again.
        committed: Asks the group for the next offset that it would begin at; blocks. Without it, whoever hands records
            over is trusted to leave out only what was acknowledged.
    """

    def __init__(
        self,
        step: Step[S],
        ports: Ports[S],
        partition: int,
        *,
        window: int,
        batch: int,
        failed: Callable[[BaseException], None],
        committed: Callable[[], int] | None = None,
    ) -> None:
        self._step = step
        self._ports = ports
        self._partition = partition
        self._batch = batch
        self._failed = failed
        self._room = asyncio.Semaphore(window)
        self._queue: asyncio.Queue[_Item] = asyncio.Queue()
        self._committing = asyncio.create_task(self._run(), name=f"{step.name}-{partition}")
        self._kept = KeptStates(step, ports, partition)
        self._reached = 0
        self._committed = committed
        self._in_turn = asyncio.Lock()
        self._next: int | None = None
        self._at_last_look: tuple[int | None, int] | None = None
        self._labels = (step.name, str(partition))

    async def submit(self, record: Record, acknowledge: Callable[[], Any]) -> None:
        """Take one record, and before it what the consumer left out; waits while the window is full."""
        async with self._in_turn:
            await self._patiently("fill", lambda: self._fill(record.offset))
            await self._take(record, acknowledge)
            self._next = max(self._next or 0, record.offset + 1)

    async def look(self, end: int) -> None:
        """Called now and then: take from the log what the consumer did not hand over since the last look, and nothing after it.

        Args:
            end: Offset after the last record that the consumer knows of.
        Raises:
            TransientError: the log or the group does not answer.
        """
        if self._in_turn.locked():
            return
        last, self._at_last_look = self._at_last_look, (self._next, end)
        if last is not None and last[0] == self._next:
            async with self._in_turn:
                await self._fill(last[1])

    async def _fill(self, stop: int) -> None:
        """Take from the log the records before `stop` that did not come and that nobody acknowledged."""
        if self._committed is None or (self._next is not None and stop <= self._next):
            return
        earliest = (await asyncio.to_thread(self._ports.log.bounds, self._step.topic, self._partition)).earliest
        start = max(self._next or 0, earliest, await asyncio.to_thread(self._committed))
        if start < stop:
            log.warning("left out", processor=self._step.name, partition=self._partition, start=start, stop=stop)
        for low in range(start, stop, _FILL_RECORDS):
            high = min(stop, low + _FILL_RECORDS)
            for record in await asyncio.to_thread(self._read, low, high):
                await self._take(record, _unasked)
                LEFT_OUT.labels(*self._labels).inc()
            self._next = high
        self._next = max(start, stop)

    def _read(self, start: int, stop: int) -> list[Record]:
        return list(self._ports.log.read(self._step.topic, self._partition, start, stop))

    async def _take(self, record: Record, acknowledge: Callable[[], Any]) -> None:
        await self._room.acquire()
        IN_FLIGHT.labels(*self._labels).inc()
        event, cause, trouble = None, None, None
        try:
            if not is_for_another(record, self._step.name):
                event = self._kept.decode(record)
                cause = self._cause(record, event)
        except ContractError as error:
            event, trouble = None, error
        except TransientError:
            event, cause, trouble = await self._decode_later(record)
        prepared = None
        if cause is not None:
            prepared = asyncio.create_task(self._prepare(event, cause, record))
        self._queue.put_nowait(
            _Item(record=record, event=event, cause=cause, trouble=trouble, prepared=prepared, acknowledge=acknowledge)
        )

    async def stop(self) -> None:
        """Give up what is in flight; nothing of it was acknowledged."""
        self._committing.cancel()
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if item.prepared is not None:
                item.prepared.cancel()
        await asyncio.gather(self._committing, return_exceptions=True)

    async def _decode_later(self, record: Record) -> tuple[Any, Cause | None, ContractError | None]:
        """The registry is away: the partition waits for it."""
        try:
            event = await self._patiently("decode", lambda: asyncio.to_thread(self._kept.decode, record))
            return event, self._cause(record, event), None
        except ContractError as error:
            return None, None, error

    def _cause(self, record: Record, event: Any) -> Cause:
        own_id = event.event_id if hasattr(event, "event_id") else event.command_id
        return Cause(
            position=SourcePosition(topic=record.topic, partition=record.partition, offset=record.offset, index=0),
            event_id=own_id,
            correlation_id=header(record.headers, "ce_correlationid") or own_id,
            traceparent=header(record.headers, "traceparent"),
            now_us=self._ports.clock(),
            redriven=redriven_of(record),
        )

    async def _prepare(self, event: Any, cause: Cause, record: Record) -> Prepared:
        with consuming(self._step.name, record, cause):
            prepared: Prepared = await self._patiently("prepare", lambda: self._step.prepare(event, cause))
            return prepared

    async def _run(self) -> None:
        try:
            while True:
                items = [await self._first_item()]
                await self._ready(items[0])
                while len(items) < self._batch and not self._queue.empty() and self._head_follows(items[-1]):
                    items.append(self._queue.get_nowait())
                await self._patiently("commit", lambda batch=items: self._commit(batch))  # type: ignore[misc]
                for item in items:
                    item.acknowledge()
                    self._room.release()
                    IN_FLIGHT.labels(*self._labels).dec()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            log.critical("partition stopped", processor=self._step.name, partition=self._partition, error=repr(error))
            self._failed(error)
            raise

    async def _first_item(self) -> _Item:
        """The next item; while none comes, a look now and then at whether the view store still has what was stored."""
        getting = asyncio.create_task(self._queue.get())
        try:
            while not (await asyncio.wait({getting}, timeout=_LOOK_WHEN_IDLE_S))[0]:
                await self._patiently("look", lambda: self._kept.load((), self._reached))
            return getting.result()
        finally:
            getting.cancel()

    def _head_follows(self, item: _Item) -> bool:
        """Whether the next item is ready, and the one right after this; after a hole the states must be looked at anew."""
        head: _Item = self._queue._queue[0]  # type: ignore[attr-defined]  # a peek that asyncio.Queue does not offer
        return head.record.offset == item.record.offset + 1 and (head.prepared is None or head.prepared.done())

    @staticmethod
    async def _ready(item: _Item) -> None:
        if item.prepared is not None:
            await asyncio.wait({item.prepared})

    async def _commit(self, items: list[_Item]) -> None:
        keys = tuple(sorted({k for i in items if i.event is not None and (k := self._step.key(i.event)) is not None}))
        stored = await self._kept.load(keys, items[0].record.offset)
        states, seen = self._kept.unpack(stored, keys)
        changed: dict[str, S] = {}
        outs: list[Outgoing] = []
        position = stored.position
        for item in items:
            if item.record.offset < position:
                continue
            outs += self._one(item, states, seen, changed)
            if item.event is not None:
                told = told_by(item.event, item.record, self._step.name)
                seen = seen if told is None else seen.with_event(*told)
            position = item.record.offset + 1
        await self._append(outs)
        if position > stored.position:
            with storing(self._step.name, items[-1].cause):
                await self._kept.save(stored.position, position, changed, seen)
            self._measure(items, position)
        self._reached = position

    async def _append(self, outs: list[Outgoing]) -> None:
        """Append everything, in order, and wait for every answer: a second try must not overtake what is under way."""
        waiting = [self._ports.appender.append(out) for out in outs]
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    def _one(self, item: _Item, states: dict[str, S], seen: Seen, changed: dict[str, S]) -> list[Outgoing]:
        """Decide and fold one record; gives what is to be appended."""
        record = item.record
        if is_for_another(record, self._step.name):
            return []
        if item.trouble is not None or item.event is None or item.cause is None:
            trouble = item.trouble or ContractError("no event")
            return [self._kept_aside(record, trouble, was_counted=is_counted(redriven_of(record)))]
        told = told_by(item.event, record, self._step.name)
        if told is None or seen.is_repeat(*told):
            REPEATS.labels(*self._labels).inc()
            return []
        key = self._step.key(item.event)
        state = self._step.initial if key is None else states.get(key, self._step.initial)
        try:
            outs = self._decided(item, state, item.cause)
        except (TransientError, ConsistencyError):
            raise
        except Exception as error:
            outs = [self._kept_aside(record, error, was_counted=True)]
        if key is not None and not is_counted(item.cause.redriven):
            changed[key] = states[key] = self._step.fold(state, item.event)
        return outs

    def _decided(self, item: _Item, state: S, cause: Cause) -> list[Outgoing]:
        prepared = item.prepared.result() if item.prepared is not None else NOTHING
        decided = self._step.decide(state, item.event, prepared.answer, cause)
        now_us = self._ports.clock()
        outs = [outgoing(e, cause=cause, source=self._step.name, time_us=now_us, schemas=self._ports.schemas) for e in decided]
        EVENTS_OUT.labels(*self._labels).inc(len(decided))
        if prepared.dead_letter is not None:
            DEAD_LETTERS.labels(*self._labels).inc()
            trouble, outcome = ContractError(prepared.dead_letter), next(iter(decided), None)
            outs.append(dead_letter(item.record, trouble, self._step.name, now_us, was_counted=True, outcome=outcome))
        return outs

    def _kept_aside(self, record: Record, error: Exception, *, was_counted: bool = False) -> Outgoing:
        """A dead letter, whatever the record led a library into: ending the worker would only meet it again."""
        DEAD_LETTERS.labels(*self._labels).inc()
        if not isinstance(error, HindsightError):
            log.error("unexpected", processor=self._step.name, partition=self._partition, exc_info=error)
        return dead_letter(record, error, self._step.name, self._ports.clock(), was_counted=was_counted)

    async def _patiently(self, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do it again, with backoff and jitter, for as long as it says that something is away for now."""
        pause_s = _BACKOFF_FIRST_S
        while True:
            try:
                return await work()
            except TransientError as error:
                RETRIES.labels(self._step.name, str(self._partition), type(error).__name__).inc()
                log.warning(
                    "waiting",
                    processor=self._step.name,
                    partition=self._partition,
                    what=what,
                    error=str(error),
                    pause_s=round(pause_s, 2),
                )
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(pause_s * 2, _BACKOFF_MOST_S)

    def _measure(self, items: list[_Item], position: int) -> None:
        RECORDS.labels(*self._labels).inc(len(items))
        BATCH_RECORDS.labels(self._step.name).observe(len(items))
        POSITION.labels(*self._labels).set(position)


def _unasked() -> None:
    """Acknowledges nothing: the group goes on over a record that it never handed out."""
