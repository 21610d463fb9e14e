"""How far each processor is behind its topic, in records and in seconds, whoever owns its partitions.

To measure it, log and view store are asked. So this is also how a worker knows that one of them is away.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from processors.metrics import LAG_RECORDS, LAG_SECONDS
from processors.step import Ports, Step
from schemas.errors import TransientError

log = structlog.get_logger()


async def measure_lag(
    steps: Iterable[Step[object]],
    ports: Ports[object],
    stop: asyncio.Event,
    *,
    away: Callable[[TransientError | None], None],
    every_s: float = 5.0,
) -> None:
    """Set the gauges, round after round, until told to stop. A round ends at what does not answer.

    Args:
        away: Told after each round what does not answer, or None.
    """
    known = tuple(steps)
    while not stop.is_set():
        try:
            for step in known:
                await _measure(step, ports)
            away(None)
        except TransientError as error:
            log.warning("lag not measured", processor=step.name, error=str(error))
            away(error)
        try:
            await asyncio.wait_for(stop.wait(), every_s)
        except TimeoutError:
            continue


async def _measure(step: Step[object], ports: Ports[object]) -> None:
    for partition in await asyncio.to_thread(ports.log.partitions, step.topic):
        bounds = await asyncio.to_thread(ports.log.bounds, step.topic, partition)
        stored = await ports.views.load(step.name, partition, ())
        position = max(stored.position, bounds.earliest)
        behind = max(0, bounds.end - position)
        LAG_RECORDS.labels(step.name, str(partition)).set(behind)
        age_s = await asyncio.to_thread(_age_s, step, ports, partition, position) if behind else 0.0
        LAG_SECONDS.labels(step.name, str(partition)).set(age_s)


def _age_s(step: Step[object], ports: Ports[object], partition: int, position: int) -> float:
    """Age of the oldest record that is not committed."""
    for record in ports.log.read(step.topic, partition, position, position + 1):
        return max(0.0, ports.clock() / 1e6 - record.appended_at_ms / 1e3)
    return 0.0
