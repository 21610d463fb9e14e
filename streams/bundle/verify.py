"""Holding a bundle against itself, byte for byte: whatever was flipped, cut, put in or moved is found, and the entry named.

Every byte has one right value: headers and paddings follow from the layout, contents from their digests, and these lie in the
manifest, whose digest is in the end mark, which has one of its own. Beyond the bytes, every record is unframed and held
against what the manifest says, so a bundle that somebody made up consistently is found out too where it does not make sense.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.codec import unframe
from schemas.errors import BundleError, DecodeError
from streams.bundle import layout
from streams.bundle.blobs import GONE, BundleBlobs, Row
from streams.bundle.file import BundleFile
from streams.bundle.layout import BLOCK, CLOSING, END_MARK, INDEX, MANIFEST, MISSING, SIGNATURE, Entry, blob_name, schema_name
from streams.bundle.log import held
from streams.bundle.manifest import Manifest, Partition, Segment
from streams.bundle.segments import LeftOut, decompress, items
from streams.bundle.signing import signer_of

_MOST_DAMAGES = 100
_PIECE_BYTES = 2**20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One entry that is not what it should be."""

    entry: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found. `signed_by` is the fingerprint of the key that signed, None for a bundle without a signature.

    `trusted` is whether that is the key that was asked for; None when none was.
    """

    entries_count: int
    file_bytes: int
    damages: tuple[Damage, ...]
    damages_count: int
    signed_by: str | None
    trusted: bool | None

    @property
    def whole(self) -> bool:
        return not self.damages_count and self.trusted is not False


def verify_bundle(path: Path, *, key: bytes | None = None, progress: Progress = lambda done, of: None) -> Verified:
    """Read the whole file and say what is wrong with it.

    Args:
        key: The public key, 32 bytes, that must have signed it.
        progress: Told now and then how many bytes were read, and of how many.
    """
    checking = _Checking()
    signed_by, size = None, path.stat().st_size if path.exists() else 0
    try:
        with BundleFile(path) as file:
            _hold_entries(file, checking, progress)
            signed_by = checking.guarded(SIGNATURE, lambda: _signed_by(file))
            size = file.size_bytes
    except BundleError as error:  # without its end and its manifest nothing can be said of the rest
        checking.note(error.entry or str(path), _said(error))
    return Verified(
        entries_count=checking.entries_count,
        file_bytes=size,
        damages=tuple(checking.damages),
        damages_count=checking.damages_count,
        signed_by=None if signed_by is None else layout.sha256_of(signed_by),
        trusted=None if key is None else signed_by == key and not checking.damages_count,
    )


class _Checking:
    """What was found so far."""

    def __init__(self) -> None:
        self.damages: list[Damage] = []
        self.damages_count = 0
        self.entries_count = 0
        self.blobs_known = True

    def note(self, entry: str, what: str) -> None:
        damage = Damage(entry=entry, what=what)
        if damage in self.damages:
            return
        self.damages_count += 1
        if len(self.damages) < _MOST_DAMAGES:
            self.damages.append(damage)

    def guarded(self, entry: str, check: "Callable[[], bytes | None]") -> bytes | None:
        """What a check gives; None, and a note, when it finds something wrong."""
        try:
            return check()
        except BundleError as error:
            self.note(error.entry or entry, _said(error))
            return None


def _hold_entries(file: BundleFile, checking: _Checking, progress: Progress) -> None:
    """Go through the file from front to back."""
    at = BLOCK
    for name, entry, check in _expected(file, checking):
        checking.entries_count += 1
        if entry.at != at and (checking.blobs_known or name != MISSING):
            checking.note(name, f"it should lie at {at}, and not at {entry.at}")
        checking.guarded(name, lambda e=entry, n=name, c=check: _hold_entry(file, e, n, c))  # type: ignore[misc]
        at = entry.next_at
        progress(min(at, file.size_bytes), file.size_bytes)
    checking.guarded(CLOSING, lambda: _hold_zeros(file, file.size_bytes - 2 * BLOCK, 2 * BLOCK, CLOSING))


def _hold_entry(file: BundleFile, entry: Entry, name: str, check: Callable[[bytes], None] | None) -> None:
    found, wanted = file.read(entry.at - BLOCK, BLOCK, name), layout.header(name, entry.size_bytes)
    if found != wanted:
        said = found[:100].rstrip(b"\0").decode("utf-8", "replace")
        raise BundleError(f"its header is not the one that belongs here; it names {said!r}", entry=name)
    if check is not None:
        check(file.entry(entry, name))
    elif _digest(file, entry, name) != entry.sha256:
        raise BundleError("its bytes do not match their digest", entry=name)
    _hold_zeros(file, entry.at + entry.size_bytes, layout.padded(entry.size_bytes) - entry.size_bytes, name)


def _hold_zeros(file: BundleFile, at: int, size_bytes: int, name: str) -> None:
    if any(file.read(at, size_bytes, name)):
        raise BundleError("what should be zeros behind it is not", entry=name)


def _expected(file: BundleFile, checking: _Checking) -> Iterator[tuple[str, Entry, Callable[[bytes], None] | None]]:
    """Every entry of the file in its order, and what its content must be beside its digest."""
    manifest = file.manifest
    known = {schema.id for schema in manifest.schemas} | set(manifest.unknown_schema_ids.ids)
    ids = known if manifest.unknown_schema_ids.complete else None
    for partition in manifest.partitions:
        for segment in partition.segments:
            yield partition.name(segment), segment.entry, _segment_check(partition, segment, ids)
    for schema in manifest.schemas:
        yield schema_name(schema.id), schema.entry, _schema_check(schema_name(schema.id))
    yield from _expected_blobs(file, manifest, checking)
    yield MISSING, manifest.blobs.missing, None
    yield INDEX, manifest.blobs.index, None
    yield MANIFEST, file.mark.manifest, None
    if file.mark.signature is not None:
        yield SIGNATURE, file.mark.signature, None
    content = layout.end_mark_content(file.mark)
    yield END_MARK, Entry(at=file.end_at, size_bytes=BLOCK, sha256=layout.sha256_of(content)), None


def _expected_blobs(file: BundleFile, manifest: Manifest, checking: _Checking) -> Iterator[tuple[str, Entry, None]]:
    """The blobs as the index names them; when that is damaged, the blobs behind the damage cannot be told apart."""
    before, count, content_bytes, reasons = "", 0, 0, manifest.blobs.missing.at
    try:
        for row in BundleBlobs(file).rows():
            if row.sha256 <= before:
                raise BundleError(f"{row.sha256} is out of order, or named twice", entry=INDEX)
            before = row.sha256
            if row.kind == GONE:
                reasons = _hold_reason(file, row, reasons)
                continue
            count, content_bytes = count + 1, content_bytes + row.size_bytes
            yield blob_name(row.sha256), Entry(at=row.at, size_bytes=row.size_bytes, sha256=row.sha256), None
        if reasons != manifest.blobs.missing.at + manifest.blobs.missing.size_bytes:
            raise BundleError("it holds other reasons than the index names", entry=MISSING)
        if (count, content_bytes) != (manifest.blobs.count, manifest.blobs.content_bytes):
            raise BundleError("it counts other blobs than the manifest", entry=INDEX)
    except BundleError as error:
        checking.blobs_known = False
        # A damaged entry beside the blobs is noted when its digest is checked, and not twice.
        if error.entry != MISSING or _digest(file, manifest.blobs.missing, MISSING) == manifest.blobs.missing.sha256:
            checking.note(error.entry or INDEX, _said(error))


def _hold_reason(file: BundleFile, row: Row, at: int) -> int:
    """The reasons lie one after the other; gives where the next one's line begins."""
    start = at + len(row.sha256) + 1
    if row.at != start:
        raise BundleError(f"the row of {row.sha256} leads elsewhere", entry=INDEX)
    if file.read(at, len(row.sha256), MISSING) != row.sha256.encode():
        raise BundleError(f"the reason of {row.sha256} is not where it should be", entry=MISSING)
    return row.at + row.size_bytes + 1


def _segment_check(partition: Partition, segment: Segment, ids: set[int] | None) -> Callable[[bytes], None]:
    name = partition.name(segment)

    def check(content: bytes) -> None:
        raw = decompress(content, segment.raw_bytes, name)
        for item in held(items(raw, partition.topic, partition.partition, name), segment, name):
            if isinstance(item, LeftOut) or ids is None:
                continue
            try:
                schema_id, _ = unframe(item.value)
            except DecodeError:  # not in the wire format: it was so on the log, and is what it was
                continue
            if schema_id not in ids:
                raise BundleError(f"offset {item.offset} names schema {schema_id}, which the bundle does not hold", entry=name)

    return check


def _schema_check(name: str) -> Callable[[bytes], None]:
    def check(content: bytes) -> None:
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BundleError(f"it is no text: {error}", entry=name) from error

    return check


def _digest(file: BundleFile, entry: Entry, name: str) -> str:
    found = hashlib.sha256()
    for at in range(0, entry.size_bytes, _PIECE_BYTES):
        found.update(file.read(entry.at + at, min(_PIECE_BYTES, entry.size_bytes - at), name))
    return found.hexdigest()


def _signed_by(file: BundleFile) -> bytes | None:
    signature = file.signature()
    return None if signature is None else signer_of(signature, file.manifest_bytes)


def _said(error: BundleError) -> str:
    return str(error).removeprefix(f"{error.entry}: ")
