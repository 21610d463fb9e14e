"""Server-sent events of results: where a client starts, what it missed from the log, then what is new.

Guarantees: from its start on, a client gets every event of the partitions once and in order, however slowly it
reads: one that falls behind is sent back to the log. Each event's id is the position after it in all partitions
(`0:17,1:4`), so `Last-Event-ID` resumes without loss or repeat. Offsets that retention removed are told by a `gap`.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from itertools import islice

from sse_starlette import ServerSentEvent

from schemas.catalogue import RESULTS
from streams.http_gateway.feed import Item, ResultFeed, Subscription
from streams.http_gateway.metrics import HttpMetrics
from streams.http_gateway.problems import ProblemError
from streams.http_gateway.threads import in_thread
from streams.ports import EventLog

_POSITION = re.compile(r"\d{1,6}:\d{1,18}(,\d{1,6}:\d{1,18})*", re.ASCII)
_BATCH_RECORDS = 100


def parse_position(text: str) -> dict[int, int]:
    """An event's id as next offsets by partition.

    Raises:
        ProblemError: it is not one.
    """
    if not _POSITION.fullmatch(text):
        raise ProblemError("bad_position", "Last-Event-ID looks like 0:17,1:4")
    pairs = [part.split(":") for part in text.split(",")]
    return {int(partition): int(offset) for partition, offset in pairs}


def position_text(offsets: Mapping[int, int]) -> str:
    """The same the other way."""
    return ",".join(f"{partition}:{offsets[partition]}" for partition in sorted(offsets))


class ResultStream:
    """Streams for many clients.

    Args:
        most: Clients at once.
    """

    def __init__(self, *, log: EventLog, feed: ResultFeed, metrics: HttpMetrics, most: int) -> None:
        self._log = log
        self._feed = feed
        self._metrics = metrics
        self._most = most
        self._open = 0
        self._asking = 0

    async def starts(self, *, resume: Mapping[int, int] | None, from_ms: int | None) -> dict[int, int]:
        """First offset to send in each partition: after the last event seen, from a time, or from now.

        Raises:
            ProblemError: a position that this log cannot have given out, or no place is left for a client.
            LogUnavailableError: no answer.
        """
        if self._open + self._asking >= self._most:
            raise ProblemError("busy", f"{self._most} clients follow the results already")
        asking = in_thread(lambda: self._starts(resume, from_ms))
        self._asking += 1
        asking.add_done_callback(self._asked)
        # Shielded: whoever asks may give up, and the place is taken until the log answers all the same.
        return await asyncio.shield(asking)

    def _asked(self, asking: "asyncio.Future[dict[int, int]]") -> None:
        self._asking -= 1
        if not asking.cancelled():
            asking.exception()

    def _starts(self, resume: Mapping[int, int] | None, from_ms: int | None) -> dict[int, int]:
        ends = self._feed.ends()
        if resume is not None:
            if not resume.keys() <= ends.keys() or any(offset > ends[p] for p, offset in resume.items()):
                raise ProblemError("bad_position", f"the log is at {position_text(ends)}, which is before that position")
            return {p: resume.get(p, end) for p, end in ends.items()}
        if from_ms is not None:
            return {p: self._log.offset_at(RESULTS, p, from_ms) for p in ends}
        return ends

    async def events(self, starts: Mapping[int, int], device_id: str | None) -> AsyncGenerator[ServerSentEvent, None]:
        """Events for one client, until it goes away."""
        offsets = dict(starts)
        subscription = await self._feed.subscribe()
        self._count(1)
        try:
            yield ServerSentEvent(event="open", id=position_text(offsets), data="{}")
            while True:
                async for event in self._missed(subscription, offsets, device_id):
                    yield event
                while (item := await subscription.take()) is not None:
                    if (live := self._event(item, offsets, device_id)) is not None:
                        yield live
                self._metrics.stream_behind.inc()
                self._feed.unsubscribe(subscription)
                subscription = await self._feed.subscribe()
        finally:
            self._feed.unsubscribe(subscription)
            self._count(-1)

    def _count(self, change: int) -> None:
        self._open += change
        self._metrics.streams.set(self._open)

    async def _missed(
        self, subscription: Subscription, offsets: dict[int, int], device_id: str | None
    ) -> AsyncGenerator[ServerSentEvent, None]:
        """What the log holds between the client's position and the subscription's start."""
        for partition, stop in sorted(subscription.starts.items()):
            start = offsets.setdefault(partition, stop)
            if start >= stop:
                continue
            earliest = (await in_thread(partial(self._log.bounds, RESULTS, partition))).earliest
            if start < earliest:
                offsets[partition] = earliest
                lost = {"partition": partition, "from": start, "to": earliest, "why": "retention removed these offsets"}
                yield ServerSentEvent(event="gap", id=position_text(offsets), data=json.dumps(lost))
            while offsets[partition] < stop:
                items = await in_thread(partial(self._batch, partition, offsets[partition], stop))
                for item in items:
                    if (event := self._event(item, offsets, device_id)) is not None:
                        yield event
                if len(items) < _BATCH_RECORDS:
                    offsets[partition] = max(offsets[partition], stop)

    def _batch(self, partition: int, start: int, stop: int) -> list[Item]:
        records = self._log.read(RESULTS, partition, start, stop)
        try:
            return [self._feed.item(record) for record in islice(records, _BATCH_RECORDS)]
        finally:
            if hasattr(records, "close"):
                records.close()

    def _event(self, item: Item, offsets: dict[int, int], device_id: str | None) -> ServerSentEvent | None:
        """The item for this client, or None when it has it, does not want it, or nobody could read it."""
        if item.offset < offsets.get(item.partition, 0):
            return None
        offsets[item.partition] = item.offset + 1
        if item.text is None or device_id not in (None, item.device_id):
            return None
        self._metrics.stream_events.inc()
        return ServerSentEvent(event=item.event, id=position_text(offsets), data=item.text)
