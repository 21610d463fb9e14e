"""What a bundle says of itself: `manifest.json`, and the checks that hold it before anything else is believed.

Where entries lie follows from their sizes; the manifest says both, and one that says anything else is refused.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.catalogue import TOPICS
from schemas.errors import BundleError, DecodeError
from schemas.plain import canonical_json, from_plain
from streams.bundle import layout
from streams.bundle.layout import BLOCK, INDEX, MANIFEST, MISSING, Entry
from streams.bundle.segments import MOST_ITEMS, MOST_RAW_BYTES

FORMAT, VERSION = "hindsight-bundle", 1
_MOST_OFFSET = 2**63 - 1
_MOST_US = 2**53
_MOST_MS = _MOST_US // 1000
_MOST_PARTITIONS = 10_000
_MOST_SCHEMA_ID = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Part of a partition. `least_ms` and `most_ms` bound its append times; `items_count` counts left-out records too."""

    first_offset: int
    last_offset: int
    least_ms: int
    most_ms: int
    records_count: int
    items_count: int
    raw_bytes: int
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition. From `earliest` on, up to `end`, every record that belongs to the bundle is there; single ones lie before.

    `log_earliest` and `log_end` are what the log held when the bundle was made.
    """

    topic: str
    partition: int
    earliest: int
    end: int
    log_earliest: int
    log_end: int
    segments: tuple[Segment, ...]

    def name(self, segment: Segment) -> str:
        return layout.segment_name(self.topic, self.partition, segment.first_offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSchema:
    """A schema under the id that records name."""

    id: int
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownIds:
    """Schema ids that records name and the registry did not know; all of them when `complete`."""

    ids: tuple[int, ...]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Blobs:
    """`first_at` is where the first blob's content lies. `missing` holds the reasons, `index` finds either by digest."""

    count: int
    content_bytes: int
    missing_count: int
    first_at: int
    missing: Entry
    index: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHeld:
    """A snapshot that states of the window can start from."""

    view: str
    topic: str
    partition: int
    offset: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHeld:
    """A model whose files are in the bundle, as far as they were there."""

    model: str
    version: int
    digest: str
    files_count: int
    missing_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a bundle is of. Moments in microseconds since the epoch; `devices` None means all of them."""

    created_at_us: int
    created_by: str
    program: str
    pipeline: str
    from_us: int
    to_us: int
    devices: tuple[str, ...] | None
    snapshots: tuple[SnapshotHeld, ...]
    models: tuple[ModelHeld, ...]
    too_long_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole of `manifest.json`."""

    format: str
    version: int
    about: About
    partitions: tuple[Partition, ...]
    schemas: tuple[WriterSchema, ...]
    unknown_schema_ids: UnknownIds
    blobs: Blobs


def render(manifest: Manifest) -> bytes:
    """The manifest as it lies in the file."""
    return canonical_json(manifest)


def parse(content: bytes, end_at: int) -> Manifest:
    """The manifest, held against itself.

    Args:
        end_at: Where the manifest's own content lies: what it names ends before.
    Raises:
        BundleError: it is none, of another version, or says what cannot be.
    """
    try:
        plain = json.loads(content)
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise BundleError("it is not the manifest of a bundle", entry=MANIFEST)
        if plain.get("version") != VERSION:
            raise BundleError(
                f"it is of version {plain.get('version')!r}, and this program reads version {VERSION}",
                entry=MANIFEST,
                do="read it with the version of Hindsight that made it, or a newer one",
            )
        manifest = from_plain(Manifest, plain)
        canonical_json(manifest.about)  # half a surrogate pair is text that cannot be printed
    except (ValueError, RecursionError, DecodeError) as error:
        raise BundleError(f"it cannot be read: {error}", entry=MANIFEST) from error
    for complaint in _complaints(manifest):
        raise BundleError(complaint, entry=MANIFEST)
    _hold_places(manifest, end_at)
    return manifest


def laid_out(manifest: Manifest) -> Iterator[tuple[str, Entry]]:
    """Records and schemas with their names, in the order in which they lie in the file."""
    for partition in manifest.partitions:
        for segment in partition.segments:
            yield partition.name(segment), segment.entry
    for schema in manifest.schemas:
        yield layout.schema_name(schema.id), schema.entry


def _hold_places(manifest: Manifest, end_at: int) -> None:
    """Every entry lies right behind the one before it, up to the manifest."""
    at = BLOCK
    for name, entry in laid_out(manifest):
        _hold_place(name, entry, at, end_at)
        at = entry.next_at
    if manifest.blobs.first_at != at:
        raise BundleError(f"blobs should begin at {at}, and not at {manifest.blobs.first_at}", entry=MANIFEST)
    # Where the blobs end is known from where the reasons begin; that each lies in its place is for the index to say.
    if not at <= manifest.blobs.missing.at <= end_at:
        raise BundleError(f"{MISSING} lies outside of the file", entry=MANIFEST)
    _hold_place(MISSING, manifest.blobs.missing, manifest.blobs.missing.at, end_at)
    _hold_place(INDEX, manifest.blobs.index, manifest.blobs.missing.next_at, end_at)
    if manifest.blobs.index.next_at != end_at:
        raise BundleError(f"it should lie right behind {INDEX}", entry=MANIFEST)


def _hold_place(name: str, entry: Entry, at: int, end_at: int) -> None:
    if entry.at != at or entry.at % BLOCK:
        raise BundleError(f"{name} should lie at {at}, and not at {entry.at}", entry=MANIFEST)
    if not 0 <= entry.size_bytes <= layout.MOST_ENTRY_BYTES or entry.next_at > end_at:
        raise BundleError(f"{name} of {entry.size_bytes} bytes does not fit into the file", entry=MANIFEST)


def _complaints(manifest: Manifest) -> Iterator[str]:
    about = manifest.about
    if not 0 <= about.from_us <= about.to_us <= _MOST_US:
        yield f"there is no window from {about.from_us} to {about.to_us}"
    places = [(p.topic, p.partition) for p in manifest.partitions]
    order = {topic: number for number, topic in enumerate(TOPICS)}
    if unknown := sorted({topic for topic, _ in places} - order.keys()):
        yield f"topic {unknown[0]!r} is not known"
    if places != sorted(set(places), key=lambda place: (order[place[0]], place[1])):
        yield "its partitions are out of order, or named twice"
    for topic in order:
        numbers = [number for name, number in places if name == topic]
        if numbers != list(range(len(numbers))) or len(numbers) > _MOST_PARTITIONS:
            yield f"the partitions of {topic} are not numbered from 0 on"
    for partition in manifest.partitions:
        yield from _complaints_of(partition)
    ids = [schema.id for schema in manifest.schemas]
    if ids != sorted(set(ids)) or any(not 0 <= number <= _MOST_SCHEMA_ID for number in ids):
        yield "its schemas are out of order, named twice, or have ids that cannot be"
    blobs = manifest.blobs
    if min(blobs.count, blobs.content_bytes, blobs.missing_count) < 0:
        yield "it counts fewer than no blobs"


def _complaints_of(partition: Partition) -> Iterator[str]:
    name = f"{partition.topic}/{partition.partition}"
    if not 0 <= partition.log_earliest <= partition.earliest <= partition.end <= partition.log_end <= _MOST_OFFSET:
        yield f"{name} cannot have the bounds {partition.earliest} and {partition.end}"
    before = -1
    for segment in partition.segments:
        if not before < segment.first_offset <= segment.last_offset < partition.end:
            yield f"a segment of {name} is out of order: offsets {segment.first_offset} to {segment.last_offset}"
        if not 1 <= segment.items_count <= min(MOST_ITEMS, segment.last_offset - segment.first_offset + 1):
            yield f"a segment of {name} cannot have {segment.items_count} items"
        if not 0 <= segment.records_count <= segment.items_count:
            yield f"a segment of {name} cannot have {segment.records_count} records"
        if not -1 <= segment.least_ms <= segment.most_ms <= _MOST_MS:
            yield f"a segment of {name} has times from {segment.least_ms} to {segment.most_ms}"
        if not 1 <= segment.raw_bytes <= MOST_RAW_BYTES or segment.entry.size_bytes > segment.raw_bytes + 65_536:
            yield f"a segment of {name} cannot have {segment.raw_bytes} bytes in {segment.entry.size_bytes}"
        before = segment.last_offset
