"""Whether the gateway can do its work: log, blob store and view store, each asked within a deadline.

Only what /analyze and /tasks need is asked. A check that hangs is not started a second time, so that a server that is
away costs one thread and not one for each question.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from schemas.catalogue import FRAMES
from schemas.types import BlobRef
from streams.http_gateway.lookups import FRAME_OUTCOMES
from streams.http_gateway.threads import in_thread
from streams.ports import BlobStore, EventLog, ViewStore

_NOTHING = BlobRef(sha256=hashlib.sha256(b"").hexdigest(), size_bytes=0, media_type="application/octet-stream")

Check = Callable[[], Awaitable[Any]]


class Readiness:
    """Asks several checks at once.

    Args:
        checks: By name; one that returns is well, one that raises is not.
        deadline_s: For each, in seconds.
    """

    def __init__(self, checks: Mapping[str, Check], *, deadline_s: float) -> None:
        self._checks = checks
        self._deadline_s = deadline_s
        self._running: dict[str, asyncio.Future[Any]] = {}

    async def ask(self) -> dict[str, dict[str, Any]]:
        """For each check whether it is `ok`, its `detail` when it is not, and its `duration_ms`."""
        answers = await asyncio.gather(*(self._one(name) for name in self._checks))
        return dict(zip(self._checks, answers, strict=True))

    async def _one(self, name: str) -> dict[str, Any]:
        start = time.monotonic()
        running = self._running.get(name)
        if running is None or running.done():
            running = self._running[name] = asyncio.ensure_future(self._checks[name]())
        await asyncio.wait({running}, timeout=self._deadline_s)
        if not running.done():
            detail = f"no answer within {self._deadline_s:g} s"
        else:
            error = running.exception()
            detail = "" if error is None else str(error) or type(error).__name__
        return {"ok": not detail, "detail": detail, "duration_ms": round((time.monotonic() - start) * 1000, 1)}


def checks_of(*, log: EventLog, blobs: BlobStore, views: ViewStore) -> dict[str, Check]:
    """The three questions; none of them writes."""
    return {
        "kafka": lambda: in_thread(lambda: log.partitions(FRAMES)),
        "blob_store": lambda: in_thread(lambda: blobs.exists(_NOTHING)),
        "redis": lambda: views.load(FRAME_OUTCOMES, 0, ()),
    }
