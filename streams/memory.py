"""In-memory twins of the ports: a broker, a blob store and a view store that tests and simulations can hold in hand.

They keep the same promises as the real adapters, by the same contract suite; they keep nothing after the process.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from schemas.catalogue import TOPICS
from schemas.errors import BlobGoneError
from schemas.types import BlobRef
from streams.blobs import digest, hold_name, verify
from streams.partitioning import partition_of
from streams.ports import Stored
from streams.records import Bounds, Clock, Outgoing, Position, Record, hold_size


class MemoryLog:
    """`EventLog` and `Appender` in one: every append is at once what a reader sees.

    Args:
        partitions: Partitions of the topics along which frames travel; the others have one, as on a broker.
    """

    def __init__(self, clock: Clock, *, partitions: int = 4) -> None:
        self._clock = clock
        self._partitions = partitions
        self._records: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)

    def partitions(self, topic: str) -> tuple[int, ...]:
        return tuple(range(self._partitions if TOPICS[topic].chained else 1))

    def bounds(self, topic: str, partition: int) -> Bounds:
        return Bounds(earliest=0, end=len(self._records[topic, partition]))

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        records = self._records[topic, partition]
        return next((r.offset for r in records if r.appended_at_ms >= at_ms), len(records))

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        yield from self._records[topic, partition][start:stop]

    def follow(self, topic: str, starts: Mapping[int, int], stopped: Callable[[], bool]) -> Iterator[Record | None]:
        offsets = dict(starts)
        while not stopped():
            for partition in offsets:
                for record in self.read(topic, partition, offsets[partition], self.bounds(topic, partition).end):
                    offsets[partition] = record.offset + 1
                    yield record
            yield None

    async def append(self, outgoing: Outgoing) -> Position:
        return self.append_now(outgoing)

    def append_now(self, outgoing: Outgoing) -> Position:
        """The same without waiting."""
        hold_size(outgoing)
        count = len(self.partitions(outgoing.topic))
        partition = partition_of(outgoing.key, count) if outgoing.partition is None else outgoing.partition
        records = self._records[outgoing.topic, partition]
        before_ms = records[-1].appended_at_ms if records else 0
        records.append(
            Record(
                topic=outgoing.topic,
                partition=partition,
                offset=len(records),
                appended_at_ms=max(before_ms, self._clock() // 1000),
                key=outgoing.key,
                value=outgoing.value,
                headers=outgoing.headers,
            )
        )
        return Position(topic=outgoing.topic, partition=partition, offset=len(records) - 1)


class MemoryBlobStore:
    """`BlobStore` in a dict."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def put(self, content: bytes, media_type: str) -> BlobRef:
        sha256 = digest(content)
        self.contents[sha256] = content
        return BlobRef(sha256=sha256, size_bytes=len(content), media_type=media_type)

    def get(self, ref: BlobRef) -> bytes:
        hold_name(ref)
        if ref.sha256 not in self.contents:
            raise BlobGoneError(f"blob {ref.sha256} is not there")
        verify(self.contents[ref.sha256], ref)
        return self.contents[ref.sha256]

    def exists(self, ref: BlobRef) -> bool:
        hold_name(ref)
        return ref.sha256 in self.contents

    def remove(self, ref: BlobRef) -> None:
        hold_name(ref)
        self.contents.pop(ref.sha256, None)


class MemoryViewStore:
    """`ViewStore` in dicts."""

    def __init__(self) -> None:
        self._positions: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._states: defaultdict[tuple[str, int], dict[str, bytes]] = defaultdict(dict)

    async def load(self, view: str, partition: int, keys: tuple[str, ...]) -> Stored:
        states = self._states[view, partition]
        return Stored(position=self._positions[view, partition], states={k: states[k] for k in keys if k in states})

    async def load_all(self, view: str, partition: int) -> Stored:
        return Stored(position=self._positions[view, partition], states=dict(self._states[view, partition]))

    async def save(self, view: str, partition: int, *, expected: int, position: int, changes: Mapping[str, bytes]) -> bool:
        if self._positions[view, partition] != expected:
            return False
        self._states[view, partition].update(changes)
        self._positions[view, partition] = position
        return True

    async def replace(self, view: str, partition: int, stored: Stored) -> bool:
        if self._positions[view, partition] > stored.position:
            return False
        self._states[view, partition] = dict(stored.states)
        self._positions[view, partition] = stored.position
        return True
