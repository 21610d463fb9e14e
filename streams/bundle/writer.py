"""Writing a bundle from front to back, in bounded memory: records, schemas, blobs, index, manifest, end mark.

It is written beside its name and put there in one step when it is whole and on the disk, so a bundle that has its name is a
whole one.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from schemas.errors import ContractError
from streams.bundle import layout
from streams.bundle.blobs import GONE, MOST_REASON_BYTES, ROW, STORED, Row, unpack_row
from streams.bundle.layout import BLOCK, END_MARK, INDEX, MANIFEST, MISSING, SIGNATURE, EndMark, Entry
from streams.bundle.manifest import FORMAT, VERSION, About, Blobs, Manifest, Partition, Segment, UnknownIds, WriterSchema, render
from streams.bundle.segments import MOST_HEADERS, MOST_ITEMS, MOST_RAW_BYTES, RAW_BYTES, Item, LeftOut, compress, frame
from streams.bundle.signing import Signer
from streams.records import Bounds, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Why a blob is not to be had."""

    reason: str


class BundleWriter:
    """Call `add_partition` for each partition in the catalogue's order, then `add_schemas`, `add_blobs` and `finish`, once each.

    Raises:
        ContractError: there is a file of that name, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        if path.exists():
            raise ContractError(f"{path} is there already", do="name another file, or remove it first")
        try:
            self._out: IO[bytes] = self._partial.open("wb")
        except OSError as error:
            raise ContractError(f"{self._partial} cannot be written: {error.strerror}") from error
        self._at = 0
        self._done = False
        self._partitions: list[Partition] = []
        self._schemas: tuple[WriterSchema, ...] = ()
        self._unknown = UnknownIds(ids=(), complete=True)
        self._blobs: Blobs | None = None
        self.too_long_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._out.close()
        if not self._done:
            self._partial.unlink(missing_ok=True)

    def add_partition(
        self, topic: str, partition: int, *, earliest: int, end: int, log: Bounds, items: Iterable[Item]
    ) -> Partition:
        """Write a partition's records.

        Args:
            earliest: From here on the bundle has all that belongs to it.
            end: Where its window ends.
            log: What the log held.
            items: Ascending by offset.
        """
        segments: list[Segment] = []
        pending = _Pending()
        for item in items:
            framed = frame(item)
            if len(framed) > MOST_RAW_BYTES or (isinstance(item, Record) and len(item.headers) > MOST_HEADERS):
                self.too_long_count += 1
                item = LeftOut(offset=item.offset, appended_at_ms=item.appended_at_ms)
                framed = frame(item)
            if not pending.has_room(framed):
                segments.append(self._segment(topic, partition, pending))
                pending = _Pending()
            pending.add(item, framed)
        if pending.count:
            segments.append(self._segment(topic, partition, pending))
        added = Partition(
            topic=topic,
            partition=partition,
            earliest=earliest,
            end=end,
            log_earliest=log.earliest,
            log_end=log.end,
            segments=tuple(segments),
        )
        self._partitions.append(added)
        return added

    def add_schemas(self, schemas: Iterable[tuple[int, str]], unknown: UnknownIds) -> None:
        """Write schemas by id, ascending."""
        self._schemas = tuple(
            WriterSchema(id=number, entry=self._entry(layout.schema_name(number), text.encode())) for number, text in schemas
        )
        self._unknown = unknown

    def add_blobs(self, blobs: Iterable[tuple[str, bytes | Gone]]) -> Blobs:
        """Write blobs, or why they are missing, by sha256, ascending; then the reasons and the index."""
        first_at, count, content_bytes, missing_count = self._at + BLOCK, 0, 0, 0
        folder = self._path.parent
        with tempfile.TemporaryFile(dir=folder) as rows, tempfile.TemporaryFile(dir=folder) as reasons:
            for sha256, found in blobs:
                if isinstance(found, bytes):
                    entry = self._entry(layout.blob_name(sha256), found)
                    rows.write(Row(sha256=sha256, at=entry.at, size_bytes=entry.size_bytes, kind=STORED).pack())
                    count, content_bytes = count + 1, content_bytes + len(found)
                else:
                    reason = found.reason.encode("utf-8", "replace")[:MOST_REASON_BYTES]
                    reasons.write(f"{sha256} ".encode())
                    rows.write(Row(sha256=sha256, at=reasons.tell(), size_bytes=len(reason), kind=GONE).pack())
                    reasons.write(reason + b"\n")
                    missing_count += 1
            missing = self._copied(MISSING, reasons)
            with tempfile.TemporaryFile(dir=folder) as placed:
                _place_reasons(rows, placed, missing.at)
                index = self._copied(INDEX, placed)
        self._blobs = Blobs(
            count=count,
            content_bytes=content_bytes,
            missing_count=missing_count,
            first_at=first_at,
            missing=missing,
            index=index,
        )
        return self._blobs

    def finish(self, about: About, signer: Signer | None) -> Manifest:
        """Write the manifest and the end, and put the file in its place; returns when the disk has it."""
        assert self._blobs is not None, "blobs are added before the end"
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            about=about,
            partitions=tuple(self._partitions),
            schemas=self._schemas,
            unknown_schema_ids=self._unknown,
            blobs=self._blobs,
        )
        content = render(manifest)
        if len(content) > layout.MOST_MANIFEST_BYTES:
            raise ContractError(f"a manifest of {len(content)} bytes is too long", do="make bundles of shorter windows")
        entry = self._entry(MANIFEST, content)
        signature = self._entry(SIGNATURE, signer.sign(content)) if signer is not None else None
        mark = EndMark(manifest=entry, signature=signature, file_bytes=self._at + layout.TAIL_BYTES)
        self._entry(END_MARK, layout.end_mark_content(mark))
        self._out.write(bytes(2 * BLOCK))
        self._out.flush()
        os.fsync(self._out.fileno())
        self._put_in_place()
        return manifest

    def _put_in_place(self) -> None:
        try:
            os.link(self._partial, self._path)  # unlike a rename, never over another file
            self._partial.unlink()
        except FileExistsError as error:
            raise ContractError(f"{self._path} is there already", do="name another file, or remove it first") from error
        except OSError:  # not every file system has links
            os.replace(self._partial, self._path)
        self._done = True
        _sync_folder(self._path.parent)

    def _segment(self, topic: str, partition: int, pending: "_Pending") -> Segment:
        raw = b"".join(pending.framed)
        entry = self._entry(layout.segment_name(topic, partition, pending.first_offset), compress(raw))
        return Segment(
            first_offset=pending.first_offset,
            last_offset=pending.last_offset,
            least_ms=pending.least_ms,
            most_ms=pending.most_ms,
            records_count=pending.records_count,
            items_count=pending.count,
            raw_bytes=len(raw),
            entry=entry,
        )

    def _entry(self, name: str, content: bytes) -> Entry:
        self._out.write(layout.header(name, len(content)))
        self._out.write(content)
        self._out.write(bytes(layout.padded(len(content)) - len(content)))
        entry = Entry(at=self._at + BLOCK, size_bytes=len(content), sha256=layout.sha256_of(content))
        self._at = entry.next_at - BLOCK
        return entry

    def _copied(self, name: str, source: IO[bytes]) -> Entry:
        """An entry with what was gathered in a file beside."""
        size = source.tell()
        source.seek(0)
        digest = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]  # a temporary file is a file
        source.seek(0)
        self._out.write(layout.header(name, size))
        shutil.copyfileobj(source, self._out, 2**20)
        self._out.write(bytes(layout.padded(size) - size))
        entry = Entry(at=self._at + BLOCK, size_bytes=size, sha256=digest)
        self._at = entry.next_at - BLOCK
        return entry


class _Pending:
    """Items on their way into a segment."""

    def __init__(self) -> None:
        self.framed: list[bytes] = []
        self.raw_bytes = 0
        self.records_count = 0
        self.first_offset = self.last_offset = -1
        self.least_ms = self.most_ms = 0

    @property
    def count(self) -> int:
        return len(self.framed)

    def has_room(self, framed: bytes) -> bool:
        return not self.framed or (self.raw_bytes + len(framed) <= RAW_BYTES and self.count < MOST_ITEMS)

    def add(self, item: Item, framed: bytes) -> None:
        assert item.offset > self.last_offset, "records of a partition come in their order"
        if not self.framed:
            self.first_offset, self.least_ms, self.most_ms = item.offset, item.appended_at_ms, item.appended_at_ms
        self.last_offset = item.offset
        self.least_ms, self.most_ms = min(self.least_ms, item.appended_at_ms), max(self.most_ms, item.appended_at_ms)
        self.records_count += isinstance(item, Record)
        self.raw_bytes += len(framed)
        self.framed.append(framed)


def _place_reasons(rows: IO[bytes], placed: IO[bytes], reasons_at: int) -> None:
    """Rows of missing blobs say where in the file their reasons lie, which is known only now."""
    rows.seek(0)
    while content := rows.read(ROW.size):
        row = unpack_row(content)
        at = row.at + reasons_at if row.kind == GONE else row.at
        placed.write(Row(sha256=row.sha256, at=at, size_bytes=row.size_bytes, kind=row.kind).pack())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
