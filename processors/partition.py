"""Runs one step over one partition: many frames prepared at once, committed in order, acknowledged last.

    submit -> prepare (up to `window` at once, retried while the world is away; only by steps that ask it)
           -> commit, in order, as many as are ready: load states, drop repeats, decide, append and wait for the broker,
              fold, store states and position in one step
           -> acknowledge

Guarantees: a record is acknowledged only after the broker holds everything that it caused and the view store holds the
state that counts it. After a crash the record comes again; if its state was stored it is passed over, otherwise the
same events with the same ids are appended again, and readers drop them by their source. A stored state that is
behind (a flushed Redis) is caught up from the log without emitting, before the next record or when none comes for a
while; one that is ahead (another owner of the partition) makes this owner pass over what the other has counted. A
commit takes records that follow one another only, so a partition that was away and came back leaves no hole.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Any, Generic, TypeVar

import structlog

from processors.dead_letters import dead_letter
from processors.emit import outgoing
from processors.intake import Acknowledge, Intake, Item
from processors.kept import Held, KeptStates
from processors.metrics import BATCH_RECORDS, DEAD_LETTERS, EVENTS_OUT, POSITION, RECORDS, REPEATS
from processors.patience import patiently
from processors.redriven import is_counted
from processors.step import NOTHING, Deciding, Ports, Step
from processors.tracing import consuming, is_traced, storing
from schemas.catalogue import DEAD_LETTERS as DEAD_LETTERS_TOPIC
from schemas.envelope import header
from schemas.errors import ConsistencyError, ContractError, HindsightError, TransientError
from streams.records import Outgoing, Record

S = TypeVar("S")
log = structlog.get_logger()
_LOOK_WHEN_IDLE_S = 5.0


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
        self._deciding: Deciding | None = step if isinstance(step, Deciding) else None
        self._ports = ports
        self._partition = partition
        self._batch = batch
        self._failed = failed
        self._committed = committed
        self._kept = KeptStates(step, ports, partition)
        self._intake = Intake(step, ports, partition, self._kept, window=window, committed=committed)
        self._committing = asyncio.create_task(self._run(), name=f"{step.name}-{partition}")
        self._reached = 0
        self._is_traced = is_traced()
        place = (step.name, str(partition))
        self._records, self._repeats = RECORDS.labels(*place), REPEATS.labels(*place)
        self._events_out, self._dead_letters = EVENTS_OUT.labels(*place), DEAD_LETTERS.labels(*place)
        self._position, self._batches = POSITION.labels(*place), BATCH_RECORDS.labels(step.name)

    async def submit(self, records: Sequence[Record], acknowledge: Acknowledge) -> None:
        """Take records that follow one another, and before each what the consumer left out; waits while the window is full.

        Args:
            acknowledge: Called with each record, in order, once everything that it caused is durable.
        """
        await self._intake.submit(records, acknowledge)

    async def look(self, end: int) -> None:
        """Called now and then: take from the log what the consumer did not hand over since the last look (see `Intake`)."""
        await self._intake.look(end)

    async def stop(self) -> None:
        """Give up what is in flight; nothing of it was acknowledged."""
        self._committing.cancel()
        self._intake.clear()
        await asyncio.gather(self._committing, return_exceptions=True)

    async def _run(self) -> None:
        line = self._intake.line
        try:
            while True:
                while not await self._intake.some(_LOOK_WHEN_IDLE_S):
                    await self._patiently("look", self._look_at_what_is_stored)
                items = [line.popleft()]
                if items[0].prepared is not None:
                    await asyncio.wait({items[0].prepared})
                while line and len(items) < self._batch and self._follows(line[0], items[-1]):
                    items.append(line.popleft())
                await self._patiently("commit", lambda batch=items: self._commit(batch))  # type: ignore[misc]
                self._intake.done(items)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            log.critical("partition stopped", processor=self._step.name, partition=self._partition, error=repr(error))
            self._failed(error)
            raise

    async def _look_at_what_is_stored(self) -> None:
        """Catch up a store that forgot, or that somebody brought up to date in part; the group knows how far others had come."""
        stored = await self._ports.views.load(self._step.name, self._partition, ())
        if stored.position == self._reached and stored.position > 0:
            return
        if self._committed is not None:
            self._reached = max(self._reached, await asyncio.to_thread(self._committed))
        self._reached = (await self._kept.load((), self._reached)).position

    @staticmethod
    def _follows(head: Item, item: Item) -> bool:
        """Whether an item is ready, and the one right after another; after a hole the states must be looked at anew."""
        return head.record.offset == item.record.offset + 1 and head.is_ready

    async def _commit(self, items: list[Item]) -> None:
        keys = tuple(sorted({i.key for i in items if i.key is not None}))
        held = await self._kept.take(keys, items[0].record.offset)
        changed: set[str] = set()
        outs: list[Outgoing] = []
        position = held.position
        for item in items:
            if item.record.offset < position:
                continue
            outs += self._one(item, held, changed)
            position = item.record.offset + 1
        await self._append(outs)
        if position > held.position:
            with storing(self._step.name, header(items[-1].record.headers, "traceparent")):
                await self._kept.put(held, position, changed)
            self._measure(items, position)
        self._reached = position

    async def _append(self, outs: list[Outgoing]) -> None:
        """Append everything, in order, and wait for every answer: a second try must not overtake what is under way.

        Dead letters first: a failure that is on the log has its letter, wherever the worker dies.
        """
        letters = [out for out in outs if out.topic == DEAD_LETTERS_TOPIC]
        others = [out for out in outs if out.topic != DEAD_LETTERS_TOPIC]
        for batch in (letters, others):
            waiting = [self._ports.appender.append(out) for out in batch]
            for answer in await asyncio.gather(*waiting, return_exceptions=True):
                if isinstance(answer, BaseException):
                    raise answer

    def _one(self, item: Item, held: Held[S], changed: set[str]) -> list[Outgoing]:
        """Decide and fold one record; gives what is to be appended."""
        aside = held.aside
        if item.is_for_another:
            return []
        if item.redriven is not None:
            item.believe(aside.is_counted(item.redriven))
        if item.trouble is not None or item.event is None:
            trouble = item.trouble or ContractError("no event")
            if not is_counted(item.redriven):
                aside.add(item.record.offset)
            return [self._kept_aside(item.record, trouble, was_counted=is_counted(item.redriven))]
        if item.told is None or not held.watch.is_news(*item.told):
            self._repeats.inc()
            return []
        key, outs = item.key, []
        state = self._step.initial if key is None else held.states[key]
        try:
            if self._deciding is not None or self._is_traced:
                outs = self._decided(item, state)
        except (TransientError, ConsistencyError):
            raise
        except Exception as error:
            outs = [self._kept_aside(item.record, error, was_counted=True)]
        if key is not None and not is_counted(item.redriven):
            held.states[key] = self._step.fold(state, item.event)
            changed.add(key)
        if item.redriven is not None:
            aside.count(item.redriven)
        return outs

    def _decided(self, item: Item, state: S) -> list[Outgoing]:
        prepared = item.prepared.result() if item.prepared is not None else NOTHING
        now_us = self._ports.clock()
        cause = item.cause(self._ports.clock)
        # What was prepared had its span then.
        with consuming(self._step.name, item.record, cause) if item.prepared is None and self._is_traced else nullcontext():
            decided = () if self._deciding is None else self._deciding.decide(state, item.event, prepared.answer, cause)
        if not decided and prepared.dead_letter is None:
            return []
        outs = [outgoing(e, cause=cause, source=self._step.name, time_us=now_us, schemas=self._ports.schemas) for e in decided]
        self._events_out.inc(len(decided))
        if prepared.dead_letter is not None:
            self._dead_letters.inc()
            trouble, outcome = ContractError(prepared.dead_letter), next(iter(decided), None)
            outs.append(dead_letter(item.record, trouble, self._step.name, now_us, was_counted=True, outcome=outcome))
        return outs

    def _kept_aside(self, record: Record, error: Exception, *, was_counted: bool = False) -> Outgoing:
        """A dead letter, whatever the record led a library into: ending the worker would only meet it again."""
        self._dead_letters.inc()
        if not isinstance(error, HindsightError):
            log.error("unexpected", processor=self._step.name, partition=self._partition, exc_info=error)
        return dead_letter(record, error, self._step.name, self._ports.clock(), was_counted=was_counted)

    async def _patiently(self, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        return await patiently(self._step.name, self._partition, what, work)

    def _measure(self, items: list[Item], position: int) -> None:
        self._records.inc(len(items))
        self._batches.observe(len(items))
        self._position.set(position)
