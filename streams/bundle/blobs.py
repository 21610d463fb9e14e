"""The `BlobStore` of a bundle: found by binary search in `blobs.index`, verified on every read.

What lay encrypted in the store lies plain here: whoever may make a bundle may read what is in it.

A row is a sha256, a place, a length and a kind, 56 bytes, sorted by the sha256. Of a blob that was not to be had when the
bundle was made the place is that of the reason, so that the answer is the one the store gave then.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

from schemas.errors import BlobGoneError, BundleError
from schemas.types import BlobRef
from streams.blob_names import hold_name, verify
from streams.bundle.file import BundleFile
from streams.bundle.layout import BLOCK, INDEX, MISSING, blob_name
from streams.ports import BlobScope

ROW = struct.Struct(">32sQQQ")
STORED, GONE = 0, 1
MOST_REASON_BYTES = 4000
_ROWS_AT_ONCE = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One blob of the index. `at` and `size_bytes` are of its content, or of the reason why it is missing."""

    sha256: str
    at: int
    size_bytes: int
    kind: int

    def pack(self) -> bytes:
        return ROW.pack(bytes.fromhex(self.sha256), self.at, self.size_bytes, self.kind)


def unpack_row(content: bytes) -> Row:
    sha256, at, size_bytes, kind = ROW.unpack(content)
    return Row(sha256=sha256.hex(), at=at, size_bytes=size_bytes, kind=kind)


class BundleBlobs:
    """Calls may come from several threads. What is asked first holds the index against its digest."""

    def __init__(self, file: BundleFile) -> None:
        self._file = file
        self._index = file.manifest.blobs.index
        self._held = False
        self._lock = Lock()

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        raise BundleError("a bundle takes no blobs", entry=str(self._file.path))

    def get(self, ref: BlobRef) -> bytes:
        hold_name(ref)
        row = self._find(ref.sha256)
        if row is None:
            raise BlobGoneError(f"blob {ref.sha256} is not in the bundle", do="no record of its window names it")
        if row.kind == GONE:
            reason = self._file.read(row.at, row.size_bytes, MISSING).decode("utf-8", "replace")
            raise BlobGoneError(reason, do="it was gone already when the bundle was made")
        content = self._file.read(row.at, min(row.size_bytes, max(ref.size_bytes, 0) + 1), blob_name(ref.sha256))
        verify(content, ref)
        return content

    def exists(self, ref: BlobRef) -> bool:
        hold_name(ref)
        row = self._find(ref.sha256)
        return row is not None and row.kind == STORED

    def rows(self) -> Iterator[Row]:
        """The whole index, in its order.

        Raises:
            BundleError: it is damaged, or a row leads out of its part of the file.
        """
        hold_index(self._file)
        size, step = self._index.size_bytes, _ROWS_AT_ONCE * ROW.size
        for start in range(0, size, step):
            content = self._file.read(self._index.at + start, min(step, size - start), INDEX)
            for at in range(0, len(content), ROW.size):
                yield self._checked(unpack_row(content[at : at + ROW.size]))

    def reason(self, row: Row) -> str:
        """Why a blob is missing."""
        return self._file.read(row.at, row.size_bytes, MISSING).decode("utf-8", "replace")

    def _find(self, sha256: str) -> Row | None:
        with self._lock:
            if not self._held:
                hold_index(self._file)
                self._held = True
        wanted = bytes.fromhex(sha256)
        low, high = 0, self._index.size_bytes // ROW.size
        while low < high:
            middle = (low + high) // 2
            content = self._file.read(self._index.at + middle * ROW.size, ROW.size, INDEX)
            if content[:32] == wanted:
                return self._checked(unpack_row(content))
            low, high = (middle + 1, high) if content[:32] < wanted else (low, middle)
        return None

    def _checked(self, row: Row) -> Row:
        blobs = self._file.manifest.blobs
        if row.kind == STORED:
            first, last = blobs.first_at, blobs.missing.at - BLOCK
        elif row.kind == GONE and row.size_bytes <= MOST_REASON_BYTES:
            first, last = blobs.missing.at, blobs.missing.at + blobs.missing.size_bytes
        else:
            raise BundleError(f"the row of {row.sha256} is none", entry=INDEX)
        if not first <= row.at <= row.at + row.size_bytes <= last:
            raise BundleError(f"the row of {row.sha256} leads elsewhere", entry=INDEX)
        return row


def hold_index(file: BundleFile) -> None:
    """Hold the index against its digest, in pieces.

    Raises:
        BundleError: it is damaged.
    """
    index, found = file.manifest.blobs.index, hashlib.sha256()
    if (
        index.size_bytes % ROW.size
        or index.size_bytes // ROW.size != file.manifest.blobs.count + file.manifest.blobs.missing_count
    ):
        raise BundleError("it does not have a row for each blob", entry=INDEX)
    step = _ROWS_AT_ONCE * ROW.size
    for start in range(0, index.size_bytes, step):
        found.update(file.read(index.at + start, min(step, index.size_bytes - start), INDEX))
    if found.hexdigest() != index.sha256:
        raise BundleError("its bytes do not match their digest", entry=INDEX)
