"""The spool's tables in SQLite: what is asked of them and how a commit reaches the disk. The spool holds the rules.

Every commit is synced (WAL, synchronous=FULL): what was committed is there after kill -9 and after a power cut.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.edge.entries import Capture, Contents, SpooledDrop, SpooledFrame

_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frames (
    sequence INTEGER PRIMARY KEY, captured_at_us INTEGER NOT NULL, media_type TEXT NOT NULL, passage_id TEXT,
    labels TEXT NOT NULL, traceparent TEXT NOT NULL, size_bytes INTEGER NOT NULL, image BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS drops (
    first_sequence INTEGER PRIMARY KEY, last_sequence INTEGER NOT NULL, reason TEXT NOT NULL);
"""


class SpoolTables:
    """One database file. Not for several threads at once.

    Raises:
        sqlite3.DatabaseError: the file is not a database of this kind.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA journal_size_limit = 16777216")
        self._db.executescript(_TABLES)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on the disk when it ends.

        Raises:
            OSError: the disk is full or broken.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(f"the spool {self._path} cannot be written: {error}") from error
            raise

    def about(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT name, value FROM about").fetchall())

    def set_about(self, **values: str) -> None:
        statement = "INSERT INTO about VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        self._db.executemany(statement, values.items())

    def insert_frame(self, sequence: int, capture: Capture, size_bytes: int) -> None:
        labels = json.dumps(dict(capture.labels), sort_keys=True)
        about = (sequence, capture.captured_at_us, capture.media_type, capture.passage_id, labels, capture.traceparent)
        self._db.execute("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*about, size_bytes, capture.image))

    def frame(self, sequence: int) -> SpooledFrame:
        captured_at_us, media_type, passage_id, labels, traceparent, image = self._db.execute(
            "SELECT captured_at_us, media_type, passage_id, labels, traceparent, image FROM frames WHERE sequence = ?",
            (sequence,),
        ).fetchone()
        return SpooledFrame(
            sequence=sequence,
            captured_at_us=captured_at_us,
            image=image,
            media_type=media_type,
            passage_id=passage_id,
            labels=json.loads(labels),
            traceparent=traceparent,
        )

    def frame_sizes(self, after: int) -> Iterator[tuple[int, int]]:
        """(sequence, bytes) of frames above `after`, ascending, read as they are asked for."""
        yield from self._db.execute("SELECT sequence, size_bytes FROM frames WHERE sequence > ? ORDER BY sequence", (after,))

    def delete_frame(self, sequence: int) -> int:
        """Bytes that came free; 0 when there is no such frame."""
        row = self._db.execute("DELETE FROM frames WHERE sequence = ? RETURNING size_bytes", (sequence,)).fetchone()
        return int(row[0]) if row else 0

    def drops(self, after: int, limit: int) -> list[SpooledDrop]:
        """Notices whose first sequence is above `after`, ascending."""
        statement = "SELECT first_sequence, last_sequence, reason FROM drops WHERE first_sequence > ? ORDER BY 1 LIMIT ?"
        rows = self._db.execute(statement, (after, limit))
        return [SpooledDrop(sequence=first, last_sequence=last, reason=reason) for first, last, reason in rows]

    def insert_drop(self, sequence: int, reason: str) -> None:
        self._db.execute("INSERT INTO drops VALUES (?, ?, ?)", (sequence, sequence, reason))

    def grow_drop(self, sequence: int, reason: str, *, above: int) -> bool:
        """Take a frame into the notice that ends just before it, if that begins above `above` and has this reason."""
        statement = "UPDATE drops SET last_sequence = ? WHERE last_sequence = ? AND reason = ? AND first_sequence > ?"
        return self._db.execute(statement, (sequence, sequence - 1, reason, above)).rowcount > 0

    def delete_drop(self, first_sequence: int) -> None:
        self._db.execute("DELETE FROM drops WHERE first_sequence = ?", (first_sequence,))

    def contents(self) -> Contents:
        frames, used = self._db.execute("SELECT count(*), coalesce(sum(size_bytes), 0) FROM frames").fetchone()
        counted = "SELECT count(*), coalesce(sum(last_sequence - first_sequence + 1), 0) FROM drops"
        drops, dropped = self._db.execute(counted).fetchone()
        return Contents(frames_count=frames, bytes_used=used, drops_count=drops, dropped_count=dropped)

    def is_empty(self) -> bool:
        return not self._db.execute("SELECT EXISTS (SELECT 1 FROM frames) OR EXISTS (SELECT 1 FROM drops)").fetchone()[0]

    def close(self) -> None:
        self._db.close()
