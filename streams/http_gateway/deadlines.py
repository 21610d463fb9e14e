"""A bounded wait for something behind the gateway, whose end is that thing's fault and so a 503."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.errors import TransientError


@asynccontextmanager
async def within(seconds: float, late: type[TransientError]) -> AsyncIterator[None]:
    """Run the body for that long at most.

    Raises:
        TransientError: out of time; of the type `late`, which says who was waited for.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise late(f"no answer within {seconds:g} s", do="run `hindsight status`") from error
