"""A bundle file, opened: found from its end, its manifest held, its entries read by place and held against their digests.

Nothing is ever extracted; entries are read into memory one at a time, each bounded by what the manifest says.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import BundleError
from streams.bundle import layout
from streams.bundle.layout import BLOCK, END_MARK, MANIFEST, SIGNATURE, TAIL_BYTES, Entry
from streams.bundle.manifest import Manifest, parse


class BundleFile:
    """Reads may come from several threads. Close it when done.

    Raises:
        BundleError: the file is no bundle, is cut short, or its manifest is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from error
        try:
            self.size_bytes = os.fstat(self._file.fileno()).st_size
            if self.size_bytes < TAIL_BYTES or self.size_bytes % BLOCK:
                raise BundleError(f"{self.size_bytes} bytes are no whole bundle", entry=END_MARK, do="copy the file again")
            self.end_at = self.size_bytes - TAIL_BYTES + BLOCK
            self.mark = layout.read_end_mark(self.read(self.end_at, BLOCK, END_MARK), self.size_bytes)
            self.manifest_bytes = self.entry(self.mark.manifest, MANIFEST)
            self.manifest: Manifest = parse(self.manifest_bytes, self.mark.manifest.at)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def read(self, at: int, size_bytes: int, entry: str) -> bytes:
        """Bytes of the file.

        Raises:
            BundleError: the file ends before.
        """
        parts = []
        while size_bytes > 0:
            try:
                part = os.pread(self._file.fileno(), min(size_bytes, 2**30), at)
            except OSError as error:
                raise BundleError(f"it cannot be read: {error.strerror}", entry=entry) from error
            if not part:
                raise BundleError("the file ends before it does", entry=entry, do="copy the file again")
            parts.append(part)
            at, size_bytes = at + len(part), size_bytes - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def entry(self, entry: Entry, name: str) -> bytes:
        """An entry's content, held against its digest.

        Raises:
            BundleError: it is something else.
        """
        content = self.read(entry.at, entry.size_bytes, name)
        if layout.sha256_of(content) != entry.sha256:
            do = "copy the file again; `hindsight bundle verify` names all that is damaged"
            raise BundleError("its bytes do not match their digest", entry=name, do=do)
        return content

    def signature(self) -> bytes | None:
        """The content of `manifest.sig`; None when the bundle is not signed."""
        return self.entry(self.mark.signature, SIGNATURE) if self.mark.signature is not None else None
