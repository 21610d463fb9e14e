"""Faust's consumer, handing over what was fetched of a partition as one message, and committing what was acknowledged.

As installed, Faust makes two tasks for each record and follows each record's acknowledgement: about 200 us a record, more than
most steps take for their work. Here a message carries all records of one fetch of one partition, and whoever works on them says
how far the partition is done. Groups, rebalancing, flow control, seeking and the sending of commits are Faust's.

Guarantees: what is committed was acknowledged, in a partition that this process has now; nothing else moves an offset.
`agents` makes apps with it; `agent` takes the batches.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import faust
import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

log = structlog.get_logger()
_FETCH_S = 1.0
_FETCH_WHILE_BEHIND_S = 0.02
_ASK_AGAIN_MS = 500
# One fetch at a time is under way for each broker, and leaves out partitions whose last records still wait here: for as long
# as it waits for the others, nothing more of those comes. Faust waits for 1.5 s.
_FETCH_WAITS_MS = 250


class Batch(ConsumerMessage):
    """Records of one partition that were fetched together, as one message; its offset is the last one's."""

    __slots__ = ("records",)
    records: Sequence[Any]


class PatientThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread, which asks for a broker that is away twice a second, and keeps no partition waiting for idle ones.

    As installed it asks ten times a second, for each group and each of its tasks: with ten groups a worker takes a third of a
    core then, and a broker beside it starts so much later.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust hands no such setting on; what the consumer starts takes it from here.
        consumer._retry_backoff_ms = _ASK_AGAIN_MS
        consumer._client._retry_backoff = _ASK_AGAIN_MS / 1000
        consumer._fetch_max_wait_ms = _FETCH_WAITS_MS
        return consumer


class BatchConsumer(driver.Consumer):
    """A consumer for agents that take batches and acknowledge positions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done: dict[TP, int] = {}
        self._room = asyncio.Event()

    def _new_consumer_thread(self) -> PatientThread:
        return PatientThread(self, loop=self.loop, beacon=self.beacon)

    def acknowledge(self, place: TP, position: int) -> None:
        """Everything before `position` is done with; only ever further."""
        self._done[place] = max(position, self._done.get(place, 0))

    def on_buffer_drop(self, tp: TP) -> None:
        if tp in self.assignment():
            super().on_buffer_drop(tp)
        else:
            self._buffered_partitions.discard(tp)
        self._room.set()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        for place in revoked:
            self._done.pop(place, None)
        await super().on_partitions_revoked(revoked)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._hand_over(*await self._fetched(fetcher))
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _fetched(self, fetcher: Any) -> tuple[Any, Any]:
        """What there is of the partitions that have room."""
        is_behind = bool(self._buffered_partitions)
        if is_behind and not self._get_active_partitions():
            self._room.clear()
            await self.wait_first(self._room.wait(), self.suspend_flow.wait(), timeout=_FETCH_S)
            return None, None
        found: tuple[Any, Any] = await self._wait_next_records(_FETCH_WHILE_BEHIND_S if is_behind else _FETCH_S)
        return found

    async def _hand_over(self, records: Any, active: Any) -> None:
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_back()
            return
        generation = self.app.consumer_generation_id
        for place, batch in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if batch and (place in active or place in self._buffered_partitions):
                await self.wait_first(self.callback(self._message(place, batch)), self.suspend_flow.wait())
                self._read_offset[place] = batch[-1].offset

    async def _seek_back(self) -> None:
        try:
            await self.perform_seek()
        except Exception as error:  # as Faust has it: the rebalance under way seeks again
            log.warning("not sought back", error=repr(error))

    def _message(self, place: TP, records: Sequence[Any]) -> Batch:
        last = records[-1]
        message = Batch(
            place.topic,
            place.partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            [],
            None,
            b"",
            None,
            tp=place,
            generation_id=self.app.consumer_generation_id,
        )
        message.records = records
        return message

    def _filter_tps_with_pending_acks(self, topics: Iterable[Any] | None = None) -> Iterator[TP]:
        return (place for place in list(self._done) if topics is None or place in topics or place.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._done.get(tp)


class BatchTransport(driver.Transport):
    """Kafka by aiokafka, as Faust has it, with `BatchConsumer`."""

    Consumer = BatchConsumer


def consumer_of(app: faust.App) -> BatchConsumer:
    """The consumer of an app that uses batches."""
    consumer = app.consumer
    assert isinstance(consumer, BatchConsumer), "the app is made by `agents`, which uses batches"
    return consumer


def use_batches(app: faust.App) -> None:
    """Let an app that is not started yet consume in batches."""
    app.transport = BatchTransport(app.conf.broker_consumer, app)
