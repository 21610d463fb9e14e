"""Binds a step to a Faust app: the agent hands each record to its partition's runner and returns at once.

Faust brings the consumer group, the rebalancing and the commits: it commits a partition only up to the first record
that was not acknowledged, in whatever order the acknowledgements come. A timer beside the agent lets the runners look
for records that Faust left out and after which none came.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import faust
import structlog

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
    topic = app.topic(
        namespace.topic(step.topic),
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        internal=False,
    )
    runners: dict[int, PartitionRunner[Any]] = {}

    def runner_of(partition: int) -> "PartitionRunner[Any]":
        if partition not in runners:
            runners[partition] = PartitionRunner(
                step,
                ports,
                partition,
                window=window,
                batch=batch,
                failed=failed,
                committed=partial(committed, step.topic, partition),
            )
        return runners[partition]

    async def run(stream: Any) -> None:
        async for event in stream.noack().events():
            await runner_of(event.message.partition).submit(to_record(event.message, namespace), event.ack)

    async def look() -> None:
        for at in () if app.rebalancing else app.consumer.assignment():
            if at.topic == namespace.topic(step.topic) and (end := app.consumer.highwater(at)):
                try:
                    await runner_of(at.partition).look(end)
                except TransientError as error:
                    log.warning("not looked", processor=step.name, partition=at.partition, error=str(error))

    app.agent(topic, name=f"{namespace.group(step.name)}-agent")(run)
    app.timer(_LOOK_S, name=f"{namespace.group(step.name)}-look")(look)

    async def stop_runners(*_: Any, **__: Any) -> None:
        for runner in runners.values():
            await runner.stop()
        runners.clear()

    app.on_before_shutdown.connect(stop_runners, weak=False)


def to_record(message: Any, namespace: Namespace) -> Record:
    """A message as Faust delivers it, as a record."""
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Record(
        topic=namespace.catalogue_name(message.topic),
        partition=message.partition,
        offset=message.offset,
        appended_at_ms=int(message.timestamp * 1000 + 0.5),
        key=message.key,
        value=message.value,
        headers=tuple((str(k), v) for k, v in pairs),
    )
