"""Binds a step to a Faust app: the agent lays each batch before its partition's runner and returns at once.

Faust brings the consumer group, the rebalancing and the commits; `faust_batches` has it hand over what was fetched of a
partition as one message. A partition whose runner is behind is fetched no further until that has caught up, and holds up
no other. A timer beside the agent lets the runners look for records that Faust left out and after which none came.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import faust
import structlog
from faust.types import TP

from processors.faust_batches import BatchConsumer, consumer_of
from processors.partition import PartitionRunner
from processors.step import Ports, Step
from schemas.errors import TransientError
from streams.names import Namespace
from streams.records import Record

log = structlog.get_logger()
_LOOK_S = 3.0


def bind(
    app: faust.App,
    step: Step[Any],
    ports: Ports[Any],
    *,
    namespace: Namespace,
    window: int,
    batch: int,
    failed: Callable[[BaseException], None],
    committed: Callable[[str, int], int],
) -> None:
    """Add the agent of one step to an app that is not started yet.

    Args:
        committed: The next offset that the app's group would begin at, by topic and partition; blocks.
    """
    name = namespace.topic(step.topic)
    topic = app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", internal=False)
    feeders: dict[int, _Feeder] = {}

    def feeder_of(partition: int) -> "_Feeder":
        if partition not in feeders:
            runner: PartitionRunner[Any] = PartitionRunner(
                step,
                ports,
                partition,
                window=window,
                batch=batch,
                failed=failed,
                committed=partial(committed, step.topic, partition),
            )
            feeders[partition] = _Feeder(runner, step.topic, consumer_of(app), TP(name, partition), failed)
        return feeders[partition]

    async def run(stream: Any) -> None:
        async for event in stream.noack().events():
            feeder_of(event.message.partition).give(event.message.records)

    async def look() -> None:
        for at in () if app.rebalancing else app.consumer.assignment():
            if at.topic == name and (end := app.consumer.highwater(at)):
                try:
                    await feeder_of(at.partition).look(end)
                except TransientError as error:
                    log.warning("not looked", processor=step.name, partition=at.partition, error=str(error))

    app.agent(topic, name=f"{namespace.group(step.name)}-agent")(run)
    app.timer(_LOOK_S, name=f"{namespace.group(step.name)}-look")(look)

    async def stop_runners(*_: Any, **__: Any) -> None:
        for feeder in feeders.values():
            await feeder.stop()
        feeders.clear()

    app.on_before_shutdown.connect(stop_runners, weak=False)


class _Feeder:
    """What was fetched of a partition and has no room in its runner's window yet."""

    def __init__(
        self,
        runner: PartitionRunner[Any],
        topic: str,
        consumer: BatchConsumer,
        place: TP,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._runner = runner
        self._topic = topic
        self._consumer = consumer
        self._place = place
        self._failed = failed
        self._waiting: deque[Any] = deque()
        self._some = asyncio.Event()
        self._feeding = asyncio.create_task(self._feed())

    def give(self, records: list[Any]) -> None:
        """Take what was fetched; nothing more is until that has gone to the runner."""
        self._waiting.append(records)
        self._some.set()
        self._consumer.on_buffer_full(self._place)

    async def look(self, end: int) -> None:
        """See `PartitionRunner.look`. Whatever waits here is not left out."""
        if not self._waiting:
            await self._runner.look(end)

    async def stop(self) -> None:
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)
        await self._runner.stop()

    async def _feed(self) -> None:
        try:
            while True:
                await self._some.wait()
                while self._waiting:
                    records = self._waiting[0]
                    await self._runner.submit([to_record(r, self._topic) for r in records], self._acknowledge)
                    self._waiting.popleft()
                self._some.clear()
                self._consumer.on_buffer_drop(self._place)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failed(error)
            raise

    def _acknowledge(self, record: Record) -> None:
        self._consumer.acknowledge(self._place, record.offset + 1)


def to_record(fetched: Any, topic: str) -> Record:
    """A record as the consumer fetched it, as one of the catalogue's topic."""
    return Record(
        topic=topic,
        partition=fetched.partition,
        offset=fetched.offset,
        appended_at_ms=fetched.timestamp,
        key=fetched.key,
        value=fetched.value,
        headers=fetched.headers,
    )
