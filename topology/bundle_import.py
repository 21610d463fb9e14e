"""Loading an incident bundle into an empty namespace: topics, schemas, blobs and records, each where it was.

Offsets, append times, keys, values and headers come out as they were recorded; only where this registry gives another id to a
schema do the values carry that id. How: docs/how-to/incident-bundles.md.
"""

import json
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.catalogue import DEAD_LETTERS, EVENT_BY_NAME, full_name, subject
from schemas.errors import ContractError, DecodeError
from schemas.types import BlobRef
from streams.bundle.blobs import STORED, BundleBlobs, Row
from streams.bundle.file import BundleFile
from streams.bundle.log import BundleLog
from streams.bundle.manifest import Manifest, Partition
from streams.bundle.schemas import BundleSchemas
from streams.bundle.segments import LeftOut
from streams.bundle.verify import verify_bundle
from streams.kafka_import import KafkaImport
from streams.records import Record
from streams.registry import RegistrySchemas
from topology import wiring
from topology.settings import Settings

_ID = struct.Struct(">bI")
_PUT_AT_ONCE = 8

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was loaded. `renumbered` are schema ids that this registry gives another number: from, to."""

    records_count: int
    filled_count: int
    blobs_count: int
    schemas_count: int
    renumbered: tuple[tuple[int, int], ...]


def import_bundle(path: Path, settings: Settings, *, most_filled: int, progress: Progress) -> Imported:
    """Load a bundle into the empty namespace of the settings.

    Args:
        most_filled: Empty records to write at most.
    Raises:
        ContractError: the bundle is not whole, or the namespace is not empty or is in use.
        ConsistencyError: somebody else wrote there meanwhile.
        TransientError: a server does not answer.
    """
    _hold_whole(path, progress)
    with BundleFile(path) as file:
        writing = KafkaImport(
            wiring.bootstrap_servers(settings), wiring.namespace(settings), replication=settings.kafka.replication
        )
        _hold_room(file.manifest, most_filled)
        if busy := writing.readers():
            raise ContractError(
                f"somebody reads in this namespace and would take the records for new ones: {', '.join(busy)}",
                do="stop the workers, or import into a namespace of its own: HINDSIGHT_NAMESPACE=incident-1",
            )
        counts: dict[str, int] = {}
        for partition in file.manifest.partitions:
            counts[partition.topic] = counts.get(partition.topic, 0) + 1
        writing.prepare(counts)
        numbers = _register(file, wiring.schemas(settings))
        blobs_count = _put_blobs(file, settings, progress)
        records_count, filled_count = _write(file, writing, numbers, progress)
        return Imported(
            records_count=records_count,
            filled_count=filled_count,
            blobs_count=blobs_count,
            schemas_count=len(numbers),
            renumbered=tuple(sorted((old, new) for old, new in numbers.items() if old != new)),
        )


def to_fill(partition: Partition) -> int:
    """How many empty records a partition needs for its offsets to come out."""
    if not partition.segments:
        return 0
    records_count = sum(segment.records_count for segment in partition.segments)
    return partition.segments[-1].last_offset + 1 - records_count


def _hold_whole(path: Path, progress: Progress) -> None:
    found = verify_bundle(path, progress=lambda done, of: progress("bytes verified", done, of))
    if not found.whole:
        damage = found.damages[0]
        raise ContractError(f"{path} is damaged: {damage.entry}: {damage.what}", do="run `hindsight bundle verify` on it")


def _hold_room(manifest: Manifest, most_filled: int) -> None:
    needed = sum(to_fill(partition) for partition in manifest.partitions)
    if needed > most_filled:
        raise ContractError(
            f"{needed} empty records would be written to give the others their offsets, and at most {most_filled} may be",
            do="allow more with --fill-at-most, or look at the bundle without importing it: --bundle",
        )


def _register(file: BundleFile, registry: RegistrySchemas) -> dict[int, int]:
    """Register the writer schemas, oldest first; gives this registry's id of each.

    Raises:
        ContractError: this registry knows an id that records name and theirs did not know.
    """
    held = BundleSchemas(file)
    for number in file.manifest.unknown_schema_ids.ids:
        try:
            registry.schema_of(number)
        except DecodeError:
            continue
        raise ContractError(
            f"this registry has a schema {number}, which the recorded system did not know, and records name it",
            do="import into a stack with a registry of its own",
        )
    return {
        number: registry.register_text(_subject(held.schema_of(number), number), held.schema_of(number)) for number in held.ids()
    }


def _subject(text: str, number: int) -> str:
    try:
        schema = json.loads(text)
        event = EVENT_BY_NAME.get(schema["name"])
        if event is not None and full_name(event) == f"{schema['namespace']}.{schema['name']}":
            return subject(event)
    except (ValueError, KeyError, TypeError):
        pass
    return f"imported-{number}"


def _put_blobs(file: BundleFile, settings: Settings, progress: Progress) -> int:
    """Several at once, a bounded number of them in memory."""
    store = wiring.blob_store(settings)
    wiring.make_buckets(settings)
    held, count, total = BundleBlobs(file), 0, file.manifest.blobs.count

    def put(row: Row) -> None:
        ref = BlobRef(sha256=row.sha256, size_bytes=row.size_bytes, media_type="application/octet-stream")
        store.put(held.get(ref), ref.media_type)

    under_way: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_PUT_AT_ONCE, thread_name_prefix="blobs") as threads:
        for row in held.rows():
            if row.kind == STORED:
                under_way.append(threads.submit(put, row))
                count += 1
            if len(under_way) >= _PUT_AT_ONCE:
                under_way.popleft().result()
                progress("blobs", count, total)
        for one in under_way:
            one.result()
    return count


def _write(file: BundleFile, writing: KafkaImport, numbers: dict[int, int], progress: Progress) -> tuple[int, int]:
    log, total = BundleLog(file), sum(to_fill(p) + _records(p) for p in file.manifest.partitions)
    done = filled = 0
    for partition in file.manifest.partitions:
        if not partition.segments:
            continue
        items = _items(log, partition, numbers if partition.topic != DEAD_LETTERS else {})
        filled += writing.write(partition.topic, partition.partition, items)
        done += to_fill(partition) + _records(partition)
        first = partition.segments[0].first_offset
        # A log that begins at 0 counts as one that has its start, which this one has not.
        if before := max(first, 1 if partition.earliest > 0 else 0):
            writing.trim(partition.topic, partition.partition, before)
        progress("records", done, total)
    return sum(_records(p) for p in file.manifest.partitions), filled


def _records(partition: Partition) -> int:
    return sum(segment.records_count for segment in partition.segments)


def _items(log: BundleLog, partition: Partition, numbers: dict[int, int]) -> Iterator[tuple[int, int, Record | None]]:
    for item in log.items(partition.topic, partition.partition, 0, partition.end):
        yield item.offset, item.appended_at_ms, None if isinstance(item, LeftOut) else _renumbered(item, numbers)


def _renumbered(record: Record, numbers: dict[int, int]) -> Record:
    """The record with this registry's id of its schema."""
    value = record.value
    if value is None or len(value) < _ID.size or value[0] != 0:
        return record
    _, number = _ID.unpack_from(value)
    new = numbers.get(number, number)
    return record if new == number else replace(record, value=_ID.pack(0, new) + value[_ID.size :])
