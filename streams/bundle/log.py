"""The `EventLog` of a bundle: records with their own positions and append times, one segment in memory at a time.

A partition's bounds are what the bundle holds of it without a gap: from `earliest`, before which only single records lie
(causes, announcements of snapshots), to `end`, the end of the window. Those single ones are read by asking for their
offsets. Nothing is ever appended, so `follow` gives what is there and then None for ever.
"""

import bisect
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from threading import Lock

from schemas.errors import BundleError
from streams.bundle.file import BundleFile
from streams.bundle.manifest import Partition, Segment
from streams.bundle.segments import Item, LeftOut, decompress, items
from streams.records import Bounds, Record

_KEPT_BYTES = 12 * 2**20
_NOTHING_NEW_S = 0.02


class BundleLog:
    """Reads may come from several threads."""

    def __init__(self, file: BundleFile) -> None:
        self._file = file
        self._partitions = {(p.topic, p.partition): p for p in file.manifest.partitions}
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def partitions(self, topic: str) -> tuple[int, ...]:
        found = tuple(number for name, number in self._partitions if name == topic)
        if not found:
            raise BundleError(f"it holds no topic {topic}", entry=str(self._file.path))
        return found

    def bounds(self, topic: str, partition: int) -> Bounds:
        found = self._partition(topic, partition)
        return Bounds(earliest=found.earliest, end=found.end)

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        found = self._partition(topic, partition)
        for segment in found.segments:
            if segment.most_ms < at_ms or segment.last_offset < found.earliest:
                continue
            for item in self._items(found, segment):
                if item.offset >= found.earliest and item.appended_at_ms >= at_ms:
                    return item.offset
        return found.end

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        for item in self.items(topic, partition, start, stop):
            if isinstance(item, Record):
                yield item

    def items(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Item]:
        """The same with the places of records that were left out."""
        found = self._partition(topic, partition)
        first = bisect.bisect_left(found.segments, start, key=lambda segment: segment.last_offset)
        for segment in found.segments[first:]:
            if segment.first_offset >= stop:
                return
            for item in self._items(found, segment):
                if start <= item.offset < stop:
                    yield item

    def follow(self, topic: str, starts: Mapping[int, int], stopped: Callable[[], bool]) -> Iterator[Record | None]:
        for partition, start in starts.items():
            for record in self.read(topic, partition, start, self.bounds(topic, partition).end):
                if stopped():
                    return
                yield record
        while not stopped():
            yield None
            time.sleep(_NOTHING_NEW_S)  # nothing will ever be new; whoever waits should not burn a core

    def _partition(self, topic: str, partition: int) -> Partition:
        found = self._partitions.get((topic, partition))
        if found is None:
            raise BundleError(f"it holds no partition {partition} of {topic}", entry=str(self._file.path))
        return found

    def _items(self, partition: Partition, segment: Segment) -> Iterator[Item]:
        name = partition.name(segment)
        return held(items(self._raw(segment, name), partition.topic, partition.partition, name), segment, name)

    def _raw(self, segment: Segment, name: str) -> bytes:
        with self._lock:
            if segment.entry.at in self._kept:
                self._kept.move_to_end(segment.entry.at)
                return self._kept[segment.entry.at]
        raw = decompress(self._file.entry(segment.entry, name), segment.raw_bytes, name)
        with self._lock:
            self._kept[segment.entry.at] = raw
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return raw


def held(found: Iterator[Item], segment: Segment, name: str) -> Iterator[Item]:
    """The items of a segment, held against what the manifest says of it.

    Raises:
        BundleError: they are others.
    """
    before, records_count, items_count = segment.first_offset - 1, 0, 0
    least_ms, most_ms = segment.most_ms, segment.least_ms
    for item in found:
        if not before < item.offset <= segment.last_offset or (before < segment.first_offset != item.offset):
            raise BundleError(f"offset {item.offset} does not belong where it is", entry=name)
        if not segment.least_ms <= item.appended_at_ms <= segment.most_ms:
            raise BundleError(f"offset {item.offset} has the append time {item.appended_at_ms}, which is not its", entry=name)
        before, items_count = item.offset, items_count + 1
        records_count += not isinstance(item, LeftOut)
        least_ms, most_ms = min(least_ms, item.appended_at_ms), max(most_ms, item.appended_at_ms)
        yield item
    if (before, records_count, items_count) != (segment.last_offset, segment.records_count, segment.items_count):
        raise BundleError("it holds other records than the manifest says", entry=name)
    if (least_ms, most_ms) != (segment.least_ms, segment.most_ms):
        raise BundleError("its append times are not what the manifest says", entry=name)
