"""One thread that follows vision.results for all clients of the result stream, each with a bounded buffer.

Guarantees: a subscriber gets every record from its `starts` on, in the order of each partition, until its buffer is
full; then it is told that it fell behind, and reads on from the log. The thread runs while there are subscribers,
and starts again where it was when the log was away. `result_stream` makes server-sent events of it.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread

import structlog

from schemas.catalogue import RESULTS
from schemas.codec import Schemas, decode
from schemas.errors import ContractError, TransientError
from schemas.events import ResultCorrected
from schemas.plain import to_plain
from streams.http_gateway.metrics import HttpMetrics
from streams.http_gateway.threads import in_thread
from streams.ports import EventLog
from streams.records import Record

_RETRY_S = 1.0
_log = structlog.get_logger("hindsight.http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One record of vision.results, decoded once for everybody; `text` is None when it could not be."""

    partition: int
    offset: int
    device_id: str
    event: str
    text: str | None


class Subscription:
    """What one client waits on. Belongs to the event loop that made it.

    Args:
        starts: The first offset of each partition that this subscription gives.
        size: Most items kept.
    """

    def __init__(self, starts: Mapping[int, int], size: int) -> None:
        self.starts = dict(starts)
        self.behind = False
        self._size = size
        self._items: deque[Item] = deque()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def offer(self, item: Item) -> None:
        """Called by the following thread."""
        if self.behind or len(self._items) >= self._size:
            self.behind = True
        else:
            self._items.append(item)
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:
            # The loop is closed: the server stops, and nobody waits any more.
            self.behind = True

    async def take(self) -> Item | None:
        """The next item; None when the client fell behind and everything kept was taken."""
        while not self._items:
            if self.behind:
                return None
            self._news.clear()
            # An item may have come between the two lines above.
            if not self._items and not self.behind:
                await self._news.wait()
        return self._items.popleft()


class ResultFeed:
    """The shared follower.

    Args:
        buffer: Most items kept for each subscriber.
    """

    def __init__(self, *, log: EventLog, schemas: Schemas, metrics: HttpMetrics, buffer: int) -> None:
        self._log = log
        self._schemas = schemas
        self._metrics = metrics
        self._buffer = buffer
        self._lock = Lock()
        self._subscriptions: set[Subscription] = set()
        self._offsets: dict[int, int] = {}
        self._stop = Event()
        self._thread: Thread | None = None

    async def subscribe(self) -> Subscription:
        """Begin to receive; what lies before the subscription's `starts` is to be read from the log.

        Raises:
            LogUnavailableError: no answer.
        """
        ends = await in_thread(self.ends)
        with self._lock:
            if self._thread is None:
                self._offsets = dict(ends)
                self._stop = Event()
                self._thread = Thread(target=self._run, args=(self._stop,), name="result-feed", daemon=True)
                self._thread.start()
            subscription = Subscription(self._offsets, self._buffer)
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop receiving; with the last one the thread ends."""
        with self._lock:
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                self._stop.set()
                self._thread = None

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None:
            thread.join(5.0)

    def ends(self) -> dict[int, int]:
        """Next offset to be written in each partition. Blocks."""
        return {p: self._log.bounds(RESULTS, p).end for p in self._log.partitions(RESULTS)}

    def item(self, record: Record) -> Item:
        """A record made ready to be sent.

        Raises:
            RegistryUnavailableError: its schema could not be asked for.
        """
        try:
            event = decode(record.value, RESULTS, self._schemas)
        except ContractError as error:
            self._metrics.undecodable.inc()
            _log.warning("record skipped", topic=RESULTS, partition=record.partition, offset=record.offset, error=str(error))
            return Item(partition=record.partition, offset=record.offset, device_id="", event="", text=None)
        device_id = event.device_id if isinstance(event, ResultCorrected) else event.frame.device_id
        name = type(event).__name__
        text = json.dumps(
            {
                "event": name,
                "topic": RESULTS,
                "partition": record.partition,
                "offset": record.offset,
                "appended_at_ms": record.appended_at_ms,
                "content": to_plain(event),
            },
            ensure_ascii=False,
        )
        return Item(partition=record.partition, offset=record.offset, device_id=device_id, event=name, text=text)

    def _run(self, stop: Event) -> None:
        while not stop.is_set():
            try:
                for record in self._log.follow(RESULTS, dict(self._offsets), stop.is_set):
                    if record is not None:
                        self._hand_out(self.item(record), stop)
            except TransientError as error:
                _log.warning("result feed waits", error=str(error))
                stop.wait(_RETRY_S)
            except Exception:  # one broken record or client must not end the feed of all the others
                _log.exception("result feed starts again")
                stop.wait(_RETRY_S)

    def _hand_out(self, item: Item, stop: Event) -> None:
        with self._lock:
            if stop.is_set():
                return
            self._offsets[item.partition] = item.offset + 1
            for subscription in self._subscriptions:
                subscription.offer(item)
