"""Results with their inferences, read a window at a time from anywhere on the log, and counted.

A place on the line is an offset where one partition is asked, and a moment in ms where several are. Records that were
written twice are taken once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from processors.lookback.fields import fields_of
from processors.lookback.scan import Entry, Place, entry_of, is_type
from processors.lookback.where import Where
from processors.rules.contract import Rules
from schemas.catalogue import INFERENCES, RESULTS
from schemas.errors import ContractError
from schemas.events import ResultDerived
from streams.events import newest_first
from streams.partitioning import partition_of
from streams.past import Past
from streams.records import Record

_RUN_GAP = 64
_CHUNK_FIRST, _CHUNK_MOST = 64, 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One result with what can be asked of it. `thresholds` and `runtime` are the inference's; empty when it is not kept."""

    place: Place
    result_id: str
    frame_id: str
    device: str
    session: str
    sequence: int
    passage: str | None
    holds: bool
    release: str
    rules: str
    endpoint: str
    releases_offset: int
    thresholds: Mapping[str, float]
    runtime: Mapping[str, str]
    said: str


@dataclass(slots=True, kw_only=True)
class Sampler:
    """Reads windows of results between two moments, and counts what it read.

    Args:
        device: Only this device's results.
        rules: What to ask which reading a frame votes for.
    """

    past: Past
    where: Where
    from_us: int
    to_us: int
    device: str | None = None
    rules: Rules | None = None
    records_read: int = 0
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        log, partitions = self.past.log, self.past.log.partitions(RESULTS)
        if self.device is not None and partitions:
            partitions = (partition_of(self.device.encode(), len(partitions)),)
        for p in partitions:
            earliest = log.bounds(RESULTS, p).earliest
            start = max(earliest, log.offset_at(RESULTS, p, self.from_us // 1000))
            self.spans[p] = (start, max(start, log.offset_at(RESULTS, p, self.to_us // 1000 + 1)))

    @property
    def count(self) -> int:
        """Records of results between the two moments, those of other devices included."""
        return sum(stop - start for start, stop in self.spans.values())

    def line(self) -> tuple[int, int]:
        """First place, and the one after the last: offsets for one partition, ms for several."""
        if len(self.spans) == 1:
            return next(iter(self.spans.values()))
        return self.from_us // 1000, self.to_us // 1000 + 1

    def cut(self, place: int) -> dict[int, int]:
        """Where each partition is cut at a place of the line."""
        if len(self.spans) == 1:
            return {p: min(max(place, start), stop) for p, (start, stop) in self.spans.items()}
        log = self.past.log
        return {p: min(max(log.offset_at(RESULTS, p, place), start), stop) for p, (start, stop) in self.spans.items()}

    def between(self, low: int, high: int) -> int:
        """How many records lie between two places."""
        first, last = self.cut(low), self.cut(high)
        return sum(max(0, last[p] - first[p]) for p in first)

    def place_of(self, row: Row) -> int:
        """Where a row lies on the line."""
        return row.place.offset if len(self.spans) == 1 else row.place.appended_at_us // 1000

    def window(self, place: int, size: int) -> list[Row]:
        """About so many rows from a place on, in the order of the line and without a gap; fewer where the line ends.

        A device that is rare among others is looked for until the line ends.
        """
        return self._beside(place, size, self._from)

    def before(self, place: int, size: int) -> list[Row]:
        """The same up to a place, which is not in."""
        return self._beside(place, size, self._up_to)

    def all_between(self, low: int, high: int) -> list[Row]:
        """Every row between two places."""
        first, last = self.cut(low), self.cut(high)
        found = [self._rows(self._read(RESULTS, p, start, last[p]), None) for p, start in first.items()]
        return self._ordered([row for rows in found for row in rows])

    def _beside(self, place: int, size: int, rows_of: Callable[[int, int, int], list[Row]]) -> list[Row]:
        """Rows on one side of a place. Where partitions are unlike, the sparse ones reach farther than the dense ones."""
        share, cuts = -(-size // max(1, len(self.spans))), self.cut(place)
        while True:
            by_partition = [rows_of(p, cut, share) for p, cut in cuts.items()]
            together = self._ordered([row for rows in by_partition for row in rows])
            reaches = [abs(_time(rows[-1]) - place) for rows in by_partition if len(rows) == share]
            if len(self.spans) > 1 and reaches:
                together = [row for row in together if abs(_time(row) - place) <= min(reaches)]
            if share >= size or not reaches or 2 * len(together) >= size:
                return together
            share = size

    def _from(self, partition: int, cut: int, most: int) -> list[Row]:
        return self._rows(self._read(RESULTS, partition, cut, self.spans[partition][1]), most)

    def _up_to(self, partition: int, cut: int, most: int) -> list[Row]:
        return self._rows(self._backwards(partition, cut), most)

    def _backwards(self, partition: int, stop: int) -> Iterator[Record]:
        read, lowest = partial(self._read, RESULTS, partition), self.spans[partition][0]
        return newest_first(read, lowest, stop, first=_CHUNK_FIRST, most=_CHUNK_MOST)

    def _ordered(self, rows: list[Row]) -> list[Row]:
        return sorted(rows, key=lambda r: (r.place.appended_at_us, r.place.partition, r.place.offset))

    def _rows(self, records: Iterator[Record], most: int | None) -> list[Row]:
        """Rows of one partition, at most so many, the first copy of each."""
        key, results = None if self.device is None else self.device.encode(), dict[str, Entry]()
        for record in records:
            if (key is not None and record.key != key) or not is_type(record, "ResultDerived"):
                continue
            entry = entry_of(record, self.past)
            if isinstance(entry.event, ResultDerived):
                known = results.get(entry.event_id)
                results[entry.event_id] = entry if known is None or entry.place.offset < known.place.offset else known
            if len(results) == most:
                break
        inferences = self._inferences(list(results.values()))
        return [self._row(e, inferences.get((e.event.source.partition, e.event.source.offset))) for e in results.values()]

    def _inferences(self, results: Sequence[Entry]) -> dict[tuple[int, int], Any]:
        """The inferences of results, by partition and offset; read in runs, since sources of neighbours are neighbours."""
        found: dict[tuple[int, int], Any] = {}
        for partition in sorted({e.event.source.partition for e in results}):
            wanted = sorted({e.event.source.offset for e in results if e.event.source.partition == partition})
            for first, last in _runs(wanted):
                for record in self._read(INFERENCES, partition, first, last + 1):
                    if record.offset in wanted and (event := entry_of(record, self.past).event) is not None:
                        found[partition, record.offset] = event
        return found

    def _read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        if partition not in self.past.log.partitions(topic):
            return
        for record in self.past.log.read(topic, partition, start, stop):
            self.records_read += 1
            yield record

    def _row(self, entry: Entry, inference: Any) -> Row:
        event: ResultDerived = entry.event
        thresholds = dict(getattr(inference, "parameters", {}))
        fields = fields_of(event, inference, self.rules)
        self.unknown |= self.where.names - fields.keys()
        self.known |= fields.keys()
        labels = ", ".join(r.label for r in event.readings)
        return Row(
            place=entry.place,
            result_id=entry.event_id,
            frame_id=event.frame.frame_id,
            device=event.frame.device_id,
            session=event.frame.session_id,
            sequence=event.frame.sequence,
            passage=event.conclusion.passage_id if event.conclusion is not None else event.frame.passage_id,
            holds=self.where.holds(fields),
            release=event.release or "none",
            rules=event.rules,
            endpoint=getattr(inference, "endpoint", ""),
            releases_offset=getattr(inference, "releases_offset", -1),
            thresholds=thresholds,
            runtime=dict(getattr(inference, "runtime", {})),
            said=f"{event.outcome} {labels or event.detail}".strip(),
        )

    def hold_names(self) -> None:
        """Names that are no field and that no inference has as a threshold are a mistake, and not something missing.

        Raises:
            ContractError: there is such a name.
        """
        if nowhere := sorted(self.unknown - self.known):
            raise ContractError(
                f"--where names {', '.join(nowhere)}, which no result here has", do=f"choose from {', '.join(sorted(self.known))}"
            )


def _time(row: Row) -> int:
    return row.place.appended_at_us // 1000


def _runs(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of offsets that lie close together."""
    first = last = None
    for offset in offsets:
        if last is not None and offset - last > _RUN_GAP:
            assert first is not None, "a run that ends has begun"
            yield first, last
            first = offset
        first, last = offset if first is None else first, offset
    if first is not None and last is not None:
        yield first, last
