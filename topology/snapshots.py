"""Taking snapshots beside a worker's views, and on request: the keepers of every view and partition, one after another.

The work is done in one thread at a time, and from the log alone: neither Redis nor what the processors hold is asked.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog

from processors.metrics import SNAPSHOT_TROUBLES, SNAPSHOTS_TAKEN
from processors.snapshots.keeping import Keeper, Ports, Rules
from processors.snapshots.thinning import Policy
from processors.views.catalogue import VIEWS, View
from schemas.errors import ContractError, TransientError
from streams.ports import Appender
from streams.records import Outgoing, system_clock
from topology.settings import Settings, SnapshotSettings
from topology.wiring import Clients

log = structlog.get_logger()
_APPEND_S = 30.0
_AT_ONCE = 20
_GIVE_UP_S = 600.0


def rules_of(settings: SnapshotSettings) -> Rules:
    """When a snapshot is due and how long it is kept, as the settings say."""
    return Rules(
        every_events=settings.every_events,
        every_ms=round(settings.every_s * 1000),
        policy=Policy(
            all_ms=round(settings.keep_all_hours * 3_600_000),
            hourly_ms=round(settings.keep_hourly_days * 86_400_000),
            daily_ms=round(settings.keep_daily_days * 86_400_000),
        ),
    )


def ports_of(using: Clients) -> Ports:
    """What keepers work on. Call it in the event loop that the clients belong to, and the keepers in other threads."""
    return Ports(
        log=using.log,
        schemas=using.schemas,
        blobs=using.blobs,
        append=_appending(using.appender, asyncio.get_running_loop()),
        clock=system_clock,
    )


def keepers(ports: Ports, settings: SnapshotSettings, views: Iterable[View[Any]]) -> list[Keeper]:
    """A keeper for each partition of each view; blocks.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    rules = rules_of(settings)
    return [Keeper(view, partition, ports, rules) for view in views for partition in ports.log.partitions(view.topic)]


async def keep_snapshots(settings: Settings, using: Clients, stop: asyncio.Event) -> None:
    """Look at every partition of every view and take what is due, until told to stop."""
    ports, known = ports_of(using), list[Keeper]()
    paused: dict[Keeper, float] = {}
    while settings.snapshots.taken and not stop.is_set():
        if not known:
            known = await _patiently(lambda: keepers(ports, settings.snapshots, VIEWS.values()))
            random.shuffle(known)  # several workers begin at different places
        for keeper in known:
            now_s = asyncio.get_running_loop().time()
            if not stop.is_set() and paused.get(keeper, 0.0) <= now_s and not await _step(keeper, stop):
                paused[keeper] = now_s + _GIVE_UP_S
        await _pause(stop, settings.snapshots.look_every_s)


async def _patiently(found: Callable[[], list[Keeper]]) -> list[Keeper]:
    try:
        return await asyncio.to_thread(found)
    except TransientError as error:
        log.warning("snapshots wait", error=str(error))
        return []


async def _step(keeper: Keeper, stop: asyncio.Event) -> bool:
    """Take what is due of one partition; False when that cannot be done for a good while."""
    for _ in range(_AT_ONCE):
        try:
            taken = await asyncio.to_thread(keeper.step)
        except (TransientError, TimeoutError) as error:
            SNAPSHOT_TROUBLES.labels(keeper.view, type(error).__name__).inc()
            log.warning("no snapshot yet", view=keeper.view, partition=keeper.partition, error=str(error))
            return True
        except Exception as error:  # views go on without snapshots, whatever is wrong with these
            SNAPSHOT_TROUBLES.labels(keeper.view, type(error).__name__).inc()
            unexpected = None if isinstance(error, ContractError) else error
            log.error("no snapshot", view=keeper.view, partition=keeper.partition, error=str(error), exc_info=unexpected)
            return False
        if taken is None:
            return True
        SNAPSHOTS_TAKEN.labels(keeper.view).inc()
        log.info("snapshot taken", view=taken.view, partition=taken.partition, offset=taken.offset, keys=taken.keys_count)
        if stop.is_set():
            return True
    return True


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def _appending(appender: Appender, loop: asyncio.AbstractEventLoop) -> Callable[[Outgoing], object]:
    """The appender's `append`, for threads beside its loop."""

    async def append(outgoing: Outgoing) -> object:
        return await _awaited(appender.append(outgoing))

    return lambda outgoing: asyncio.run_coroutine_threadsafe(append(outgoing), loop).result(_APPEND_S)


async def _awaited(answer: Awaitable[object]) -> object:
    return await answer
