"""Keeps the view store from lying behind what the processors' groups committed.

A partition's runner catches up when a record comes. This looks at every partition also when none comes, and whoever
owns it: a view store that lost what it held is filled again within seconds. Safe beside the runners and beside other
workers, since states move only together with their position, and only from the position that was read.
"""

import asyncio
from collections.abc import Iterable

import structlog

from processors.kept import KeptStates
from processors.step import Ports
from schemas.errors import TransientError
from streams.kafka_groups import KafkaGroups
from topology.agents import Group

log = structlog.get_logger()


async def keep_caught_up(
    groups: Iterable[Group], ports: Ports[object], kafka: KafkaGroups, stop: asyncio.Event, *, every_s: float = 5.0
) -> None:
    """Look, catch up what is behind, and look again after `every_s`, until told to stop.

    Raises:
        ConsistencyError: what is stored was not written by this version.
    """
    known = tuple(groups)
    while not stop.is_set():
        for group in known:
            try:
                await _catch_up(group, ports, kafka)
            except TransientError as error:
                log.warning("not caught up yet", processor=group.name, error=str(error))
        try:
            await asyncio.wait_for(stop.wait(), every_s)
        except TimeoutError:
            continue


async def _catch_up(group: Group, ports: Ports[object], kafka: KafkaGroups) -> None:
    for step in group.steps:
        partitions = await asyncio.to_thread(ports.log.partitions, step.topic)
        committed = await asyncio.to_thread(kafka.committed, group.name, step.topic, partitions)
        for partition, offset in sorted(committed.items()):
            # What was acknowledged had been stored before, so less than that means that the store lost it.
            if (await ports.views.load(step.name, partition, ())).position < offset:
                await KeptStates(step, ports, partition).load((), offset)
