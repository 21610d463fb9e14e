"""What belongs into a bundle, as far as found: single records, blobs, schema ids. Kept on disk, since a window may name more
than memory holds."""

import sqlite3
import tempfile
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.types import BlobRef, Stretch

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8192;
PRAGMA temp_store = FILE;
CREATE TABLE records (
  topic TEXT, partition INTEGER, offset INTEGER, done INTEGER, PRIMARY KEY (topic, partition, offset)
) WITHOUT ROWID;
CREATE TABLE blobs (
  sha256 BLOB, size_bytes INTEGER, key_id TEXT, segment TEXT, start INTEGER, length INTEGER,
  PRIMARY KEY (sha256, size_bytes, key_id, segment, start, length)
) WITHOUT ROWID;
CREATE TABLE schemas (id INTEGER PRIMARY KEY);
"""
_MOST_INTEGER = 2**63 - 1
_ANY = "application/octet-stream"
_RUN_GAP, _RUN_MOST = 200, 20_000


class Wanted:
    """Use it in a `with`: the file goes with it.

    Args:
        folder: Where there is room for it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=".wanted-", dir=folder)
        self._found = sqlite3.connect(Path(self._folder.name) / "wanted.sqlite", isolation_level=None)
        self._found.executescript(_TABLES)
        self._found.execute("BEGIN")
        self._schemas: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._found.close()
        self._folder.cleanup()

    def add_record(self, topic: str, partition: int, offset: int) -> None:
        if 0 <= offset <= _MOST_INTEGER:
            self._found.execute("INSERT OR IGNORE INTO records VALUES (?, ?, ?, 0)", (topic, partition, offset))

    def unread(self, topic: str, partition: int) -> tuple[int, int] | None:
        """A range with records that nobody has looked at yet; None when there is none."""
        rows = self._found.execute(
            "SELECT offset FROM records WHERE topic = ? AND partition = ? AND done = 0 ORDER BY offset LIMIT ?",
            (topic, partition, _RUN_MOST),
        ).fetchall()
        if not rows:
            return None
        return next(_runs(offset for (offset,) in rows))

    def is_wanted(self, topic: str, partition: int, offset: int) -> bool:
        found = self._found.execute(
            "SELECT 1 FROM records WHERE topic = ? AND partition = ? AND offset = ?", (topic, partition, offset)
        )
        return found.fetchone() is not None

    def mark_read(self, topic: str, partition: int, start: int, stop: int) -> None:
        self._found.execute(
            "UPDATE records SET done = 1 WHERE topic = ? AND partition = ? AND offset >= ? AND offset < ?",
            (topic, partition, start, stop),
        )

    def runs(self, topic: str, partition: int) -> Iterator[tuple[int, int]]:
        """Ranges of offsets, ascending, in which all wanted records of a partition lie."""
        rows = self._found.execute(
            "SELECT offset FROM records WHERE topic = ? AND partition = ? ORDER BY offset", (topic, partition)
        )
        yield from _runs(offset for (offset,) in rows)

    def add_blob(self, ref: BlobRef) -> None:
        """A reference that names a digest."""
        size_bytes = max(-1, min(ref.size_bytes, _MOST_INTEGER))
        where = ref.segment or Stretch(object="", offset=0, length=0)
        start, length = (max(-1, min(number, _MOST_INTEGER)) for number in (where.offset, where.length))
        row = (bytes.fromhex(ref.sha256), size_bytes, ref.key_id or "", where.object, start, length)
        self._found.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?)", row)

    def blobs(self) -> Iterator[tuple[str, tuple[BlobRef, ...]]]:
        """Every blob by digest, ascending, with the references that name it: under several keys or in several places when
        several frames have the same bytes, of several sizes when somebody made a mistake."""
        rows = self._found.execute("SELECT * FROM blobs ORDER BY sha256, size_bytes, key_id, segment, start, length")
        for sha256, of_one in groupby(rows, key=itemgetter(0)):
            yield sha256.hex(), tuple(_ref(*row) for row in of_one)

    def blobs_count(self) -> int:
        (count,) = self._found.execute("SELECT count(DISTINCT sha256) FROM blobs").fetchone()
        return int(count)

    def add_schema(self, schema_id: int) -> None:
        if schema_id in self._schemas:
            return
        if len(self._schemas) < 10_000:
            self._schemas.add(schema_id)
        self._found.execute("INSERT OR IGNORE INTO schemas VALUES (?)", (schema_id,))

    def schemas(self) -> Iterator[int]:
        """Every schema id, ascending."""
        for (schema_id,) in self._found.execute("SELECT id FROM schemas ORDER BY id"):
            yield schema_id


def _ref(sha256: bytes, size_bytes: int, key_id: str, segment: str, start: int, length: int) -> BlobRef:
    where = Stretch(object=segment, offset=start, length=length) if segment else None
    return BlobRef(sha256=sha256.hex(), size_bytes=size_bytes, media_type=_ANY, key_id=key_id or None, segment=where)


def _runs(offsets: Iterator[int]) -> Iterator[tuple[int, int]]:
    start = last = None
    for offset in offsets:
        if start is None or last is None:
            start = last = offset
        elif offset - last > _RUN_GAP or offset - start > _RUN_MOST:
            yield start, last + 1
            start = last = offset
        else:
            last = offset
    if start is not None and last is not None:
        yield start, last + 1
