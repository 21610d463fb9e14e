"""In-memory twins of the ports: a broker, a blob store and a view store that tests and simulations can hold in hand.

They keep the same promises as the real adapters, by the same contract suite; they keep nothing after the process.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from schemas.catalogue import TOPICS
from schemas.errors import BlobGoneError
from schemas.types import BlobRef
from streams.blob_names import digest, hold_name, verify
from streams.partitioning import partition_of
from streams.ports import BlobScope, ExpiryRule, Standing, Stored
from streams.records import Bounds, Clock, Outgoing, Position, Record, hold_size
from streams.view_digest import EMPTY, digest_of, toggled


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
        partition = partition_of(outgoing.key or b"", count) if outgoing.partition is None else outgoing.partition
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

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
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

    def discard(self, ref: BlobRef) -> None:
        hold_name(ref)
        self.contents.pop(ref.sha256, None)

    def names(self) -> Iterator[str]:
        """Digests of everything there."""
        yield from self.contents

    def expiry_rules(self) -> tuple[ExpiryRule, ...]:
        return ()


class MemoryObjects:
    """`Objects` in a dict."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def read(self, name: str, most_bytes: int, *, start: int | None = None) -> bytes | None:
        begin = start or 0
        return None if name not in self.contents else self.contents[name][begin : begin + most_bytes]

    def write(self, name: str, content: bytes, media_type: str) -> None:
        self.contents[name] = content

    def has(self, name: str) -> bool:
        return name in self.contents

    def remove(self, name: str) -> None:
        self.contents.pop(name, None)

    def list(self, prefix: str) -> Iterator[str]:
        yield from sorted(name for name in self.contents if name.startswith(prefix))


class MemoryViewStore:
    """`ViewStore` in dicts."""

    def __init__(self) -> None:
        self._positions: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._states: defaultdict[tuple[str, int], dict[str, bytes]] = defaultdict(dict)
        self._digests: defaultdict[tuple[str, int], str] = defaultdict(lambda: EMPTY)

    async def standing(self, view: str, partition: int) -> Standing:
        at = (view, partition)
        return Standing(position=self._positions[at], digest=self._digests[at], keys_count=len(self._states[at]))

    async def load(self, view: str, partition: int, keys: tuple[str, ...]) -> Stored:
        states = self._states[view, partition]
        return Stored(position=self._positions[view, partition], states={k: states[k] for k in keys if k in states})

    async def load_all(self, view: str, partition: int) -> Stored:
        return Stored(position=self._positions[view, partition], states=dict(self._states[view, partition]))

    async def save(
        self, view: str, partition: int, *, expected: int, position: int, changes: Mapping[str, bytes], digest: str | None = None
    ) -> str | None:
        at = (view, partition)
        if self._positions[at] != expected or digest not in (None, self._digests[at]):
            return None
        for key, state in changes.items():
            if key in self._states[at]:
                self._digests[at] = toggled(self._digests[at], key, self._states[at][key])
            self._digests[at] = toggled(self._digests[at], key, state)
            self._states[at][key] = state
        self._positions[at] = position
        return self._digests[at]

    async def replace(self, view: str, partition: int, stored: Stored) -> bool:
        at = (view, partition)
        if self._positions[at] > stored.position:
            return False
        self._states[at] = dict(stored.states)
        self._digests[at] = digest_of(stored.states)
        self._positions[at] = stored.position
        return True

    def forget(self, *, states_only: bool = False) -> None:
        """Lose everything, as a Redis that was emptied; or, a fault of no real store, the states alone."""
        if not states_only:
            self._positions.clear()
            self._digests.clear()
        self._states.clear()
