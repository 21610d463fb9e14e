"""Doing something again for as long as it says that something is away for now."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from processors.metrics import RETRIES
from schemas.errors import TransientError

log = structlog.get_logger()
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MOST_S = 2.0


async def patiently(processor: str, partition: int, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """What `work` gives, tried with backoff and jitter until it raises no TransientError; other errors are raised."""
    pause_s = _BACKOFF_FIRST_S
    while True:
        try:
            return await work()
        except TransientError as error:
            RETRIES.labels(processor, str(partition), type(error).__name__).inc()
            log.warning(
                "waiting", processor=processor, partition=partition, what=what, error=str(error), pause_s=round(pause_s, 2)
            )
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(pause_s * 2, _BACKOFF_MOST_S)
