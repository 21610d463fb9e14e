"""Holds this worker's views against the log for as long as it runs, in turns, with a bounded share of its time.

Each worker checks the partitions of the views that it owns at the moment, so every one is checked once, wherever it is.
A view that fits a turn is looked at every `every_s`; of a larger one the next batch is taken as soon as the share allows.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog

from processors.step import Ports
from processors.views.alarms import Alarms
from processors.views.catalogue import VIEWS, View
from processors.views.checking import ViewCheck
from processors.views.watching import ViewWatch
from schemas.errors import TransientError
from topology.settings import ChecksSettings

log = structlog.get_logger()
_LEAST_PAUSE_S = 0.01


async def keep_checking(
    settings: ChecksSettings, ports: Ports[object], owned: Callable[[str], frozenset[int]], stop: asyncio.Event
) -> None:
    """Take turns until told to stop.

    Args:
        owned: The partitions of a topic that this process' views own now.
    """
    alarms = Alarms(log=ports.log, appender=ports.appender, schemas=ports.schemas, clock=ports.clock)
    watches: dict[tuple[str, int], ViewWatch] = {}
    with TemporaryDirectory(prefix="hindsight-checks-") as folder:
        while not stop.is_set():
            started_s = time.monotonic()
            more_waits = False
            for view in VIEWS.values():
                for partition in sorted(owned(view.topic)):
                    if stop.is_set():
                        return
                    at = (view.name, partition)
                    if at not in watches:
                        watches[at] = _watch(view, partition, settings, ports, alarms, Path(folder))
                    try:
                        more_waits |= await watches[at].turn()
                    except TransientError as error:
                        log.warning("view not checked", view=view.name, partition=partition, error=str(error))
                    except sqlite3.Error as error:  # such as a full disk: what is kept beside must not end the worker
                        log.error("view not checked", view=view.name, partition=partition, error=repr(error))
                        del watches[at]
            worked_s = time.monotonic() - started_s
            pause_s = max(worked_s / settings.share - worked_s, _LEAST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s if more_waits else max(pause_s, settings.every_s - worked_s))


def _watch(
    view: View[Any], partition: int, settings: ChecksSettings, ports: Ports[object], alarms: Alarms, folder: Path
) -> ViewWatch:
    check = ViewCheck(
        view, partition, log=ports.log, views=ports.views, schemas=ports.schemas, folder=folder, snapshot=ports.snapshot
    )
    return ViewWatch(
        check,
        alarms,
        event_log=ports.log,
        views=ports.views,
        schemas=ports.schemas,
        folder=folder,
        may_repair=settings.repair,
        once_in_s=settings.repair_once_in_s,
        now_s=time.monotonic,
    )
