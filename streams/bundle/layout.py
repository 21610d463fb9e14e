"""How a bundle lies on disk: a plain TAR whose headers have no freedom, so that each byte of the file has one right value.

Every entry is a header of 512 bytes, the content, and zeros up to the next multiple of 512. The last entry is the end
mark: of a fixed size, it says where the manifest lies and what its digest is, and has a digest of its own. Two blocks of
zeros follow, and nothing else.
"""

import hashlib
import re
import tarfile
from dataclasses import dataclass

from schemas.errors import BundleError

BLOCK = 512
MANIFEST, SIGNATURE, INDEX, MISSING, END_MARK = "manifest.json", "manifest.sig", "blobs.index", "blobs.missing", "hindsight.end"
CLOSING = "the closing blocks"
SIDECARS = (MISSING, INDEX)
TAIL_BYTES = 4 * BLOCK
MOST_ENTRY_BYTES = 8 * 2**30 - 1
MOST_MANIFEST_BYTES = 256 * 2**20
MOST_SIGNATURE_BYTES = 4096
_NO_DIGEST = "0" * 64
_END_MARK = re.compile(
    rb"hindsight bundle 1\nmanifest (\d{20}) (\d{20}) ([0-9a-f]{64})\nsignature (\d{20}) ([0-9a-f]{64})\n"
    rb"file (\d{20})\ncheck ([0-9a-f]{64})\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry: where its content begins, its length, and the content's sha256."""

    at: int
    size_bytes: int
    sha256: str

    @property
    def next_at(self) -> int:
        """Where the content of the entry after this one begins."""
        return self.at + padded(self.size_bytes) + BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class EndMark:
    """What the last entry says. `signature` is None for a bundle that is not signed; `file_bytes` is the whole file's length."""

    manifest: Entry
    signature: Entry | None
    file_bytes: int


def segment_name(topic: str, partition: int, first_offset: int) -> str:
    return f"records/{topic}/{partition}/{first_offset:020d}.seg"


def schema_name(schema_id: int) -> str:
    return f"schemas/{schema_id}.avsc"


def blob_name(sha256: str) -> str:
    return f"blobs/{sha256}"


def header(name: str, size_bytes: int) -> bytes:
    """The one right header of an entry."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def padded(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK) * BLOCK


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def end_mark_content(mark: EndMark) -> bytes:
    """The end mark as it lies in the file; 512 bytes."""
    size, digest = (0, _NO_DIGEST) if mark.signature is None else (mark.signature.size_bytes, mark.signature.sha256)
    lines = (
        f"hindsight bundle 1\n"
        f"manifest {mark.manifest.at:020d} {mark.manifest.size_bytes:020d} {mark.manifest.sha256}\n"
        f"signature {size:020d} {digest}\n"
        f"file {mark.file_bytes:020d}\n"
    ).encode()
    return (lines + f"check {sha256_of(lines)}\n".encode()).ljust(BLOCK, b"\0")


def read_end_mark(content: bytes, file_bytes: int) -> EndMark:
    """The end mark of a file of that length.

    Raises:
        BundleError: it is none, or says what cannot be.
    """
    found = _END_MARK.match(content)
    if found is None:
        raise BundleError("this is no bundle, or its end is missing", entry=END_MARK, do="copy the file again")
    at, size, signature_size, length = (int(found[n]) for n in (1, 2, 4, 6))
    manifest = Entry(at=at, size_bytes=size, sha256=found[3].decode())
    signature = Entry(at=manifest.next_at, size_bytes=signature_size, sha256=found[5].decode()) if signature_size else None
    mark = EndMark(manifest=manifest, signature=signature, file_bytes=length)
    if end_mark_content(mark) != content:
        raise BundleError("it does not agree with its own digest", entry=END_MARK)
    if length != file_bytes:
        raise BundleError(f"it says that the file has {length} bytes, and there are {file_bytes}", entry=END_MARK)
    if size > MOST_MANIFEST_BYTES or signature_size > MOST_SIGNATURE_BYTES:
        raise BundleError(f"a manifest of {size} and a signature of {signature_size} bytes are more than any has", entry=END_MARK)
    last = signature or manifest
    if at < BLOCK or at % BLOCK or last.next_at != file_bytes - TAIL_BYTES + BLOCK:
        raise BundleError("the manifest does not lie where it says", entry=END_MARK)
    return mark
