"""The edge device's spool: frames on disk until the gateway has acknowledged them, in a bounded number of bytes.

One spool is one session of one device: the session goes on when the program does, and its sequence never goes back, so
a frame keeps its identity however often it is sent. When `offer` returns, the frame is on the disk: every commit is
synced (SQLite, WAL, synchronous=FULL), so neither kill -9 nor a power cut loses it or gives its number to another.

What is given up is remembered too: a run of dropped frames is one notice, in its place in the sequence, sent like a
frame. A frame or notice that was once handed out for sending is never dropped or changed, since the gateway may have
it: so what is spooled, acknowledged and noticed as dropped always adds up to what was offered. The client acts next.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Literal
from uuid import uuid4

from schemas.errors import ConfigurationError
from streams.edge.entries import Capture, Contents, Entry, Spooled, SpooledDrop, SpooledFrame

DropPolicy = Literal["oldest", "newest", "block"]
OLDEST_FIRST = "spool_full_oldest_first"
NEWEST_REFUSED = "spool_full_newest_refused"
LARGER_THAN_SPOOL = "larger_than_spool"
_ROW_BYTES = 512
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frames (
    sequence INTEGER PRIMARY KEY, captured_at_us INTEGER NOT NULL, media_type TEXT NOT NULL, passage_id TEXT,
    labels TEXT NOT NULL, traceparent TEXT NOT NULL, size_bytes INTEGER NOT NULL, image BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS drops (
    first_sequence INTEGER PRIMARY KEY, last_sequence INTEGER NOT NULL, reason TEXT NOT NULL);
"""


class Spool:
    """Opens, or goes on with, the spool in a folder. Calls block, and may be made from several threads.

    Args:
        folder: Made when it is not there; one process at a time.
        device_id: Whose frames these are.
        limit_bytes: Most bytes of frames kept, a small overhead for each included.
        drop: What to do when the next frame does not fit: drop the oldest that were never sent, refuse the new one, or
            (block) tell the caller to wait.
        session_id: For a new spool; drawn when it is empty.
    Raises:
        ConfigurationError: it belongs to another device, another process has it open, or it is not a spool.
    """

    def __init__(
        self, folder: Path, *, device_id: str, limit_bytes: int, drop: DropPolicy = "oldest", session_id: str = ""
    ) -> None:
        self.folder = folder
        self.device_id = device_id
        self.limit_bytes = limit_bytes
        self.drop: DropPolicy = drop
        self.session_id = session_id
        self.next_sequence = 0
        self.mark = ""
        self._sent = -1
        self._used = 0
        self._lock = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._held = (folder / "lock").open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._held.close()
            raise ConfigurationError(
                f"another process uses the spool in {folder}", setting="spool", do="stop it, or choose another folder"
            ) from error
        try:
            self._db = self._opened()
            self._begin(session_id)
        except sqlite3.DatabaseError as error:
            self._held.close()
            raise ConfigurationError(
                f"the spool in {folder} cannot be read: {error}",
                setting="spool",
                do="move the folder away; what it holds is lost",
            ) from error
        except ConfigurationError:
            self.close()
            raise

    def offer(self, capture: Capture) -> Spooled | None:
        """Keep a frame, by the spool's policy; None when it is full and the policy is to block.

        Raises:
            OSError: the disk is full or broken.
        """
        size = len(capture.image) + _ROW_BYTES
        with self._lock:
            if self.drop == "block" and size <= self.limit_bytes < self._used + size:
                return None
            sequence = self.next_sequence
            with self._transaction():
                evicted, refused = self._room_for(size)
                for old, _ in evicted:
                    self._db.execute("DELETE FROM frames WHERE sequence = ?", (old,))
                    self._note(old, OLDEST_FIRST)
                if refused:
                    self._note(sequence, refused)
                else:
                    self._insert(sequence, capture, size)
                self._set("next_sequence", str(sequence + 1))
                self._set("mark", capture.mark)
            self.next_sequence = sequence + 1
            self.mark = capture.mark
            self._used += (0 if refused else size) - sum(freed for _, freed in evicted)
        return Spooled(sequence=sequence, kept=not refused, dropped_count=len(evicted) + bool(refused))

    def take(self, after: int, *, frames: int, size_bytes: int) -> tuple[Entry, ...]:
        """Entries whose sequence is above `after`, ascending, at least one if there is one; they are not removed.

        Args:
            frames: Most entries.
            size_bytes: Most bytes of them, unless the first alone has more.
        """
        with self._lock, self._transaction():
            drops = [
                SpooledDrop(sequence=first, last_sequence=last, reason=reason)
                for first, last, reason in self._db.execute(
                    "SELECT first_sequence, last_sequence, reason FROM drops WHERE first_sequence > ? ORDER BY 1 LIMIT ?",
                    (after, frames),
                )
            ]
            sizes = self._db.execute(
                "SELECT sequence, size_bytes FROM frames WHERE sequence > ? ORDER BY 1 LIMIT ?", (after, frames)
            ).fetchall()
            wanted: list[int] = []
            total = 0
            for sequence, size in sizes:
                if wanted and total + size > size_bytes:
                    break
                wanted.append(sequence)
                total += size
            beyond = sizes[len(wanted)][0] if len(wanted) < len(sizes) else None
            entries: list[Entry] = [self._frame(sequence) for sequence in wanted]
            entries += [drop for drop in drops if beyond is None or drop.sequence < beyond]
            taken = tuple(sorted(entries, key=lambda entry: entry.sequence)[:frames])
            sent = max(self._sent, *(_last(entry) for entry in taken)) if taken else self._sent
            if sent > self._sent:
                self._set("sent", str(sent))
        self._sent = sent
        return taken

    def remove(self, sequences: tuple[int, ...]) -> int:
        """Forget entries that were acknowledged; gives the bytes that came free."""
        freed = 0
        with self._lock, self._transaction():
            for sequence in sequences:
                row = self._db.execute("DELETE FROM frames WHERE sequence = ? RETURNING size_bytes", (sequence,)).fetchone()
                freed += row[0] if row else 0
                self._db.execute("DELETE FROM drops WHERE first_sequence = ?", (sequence,))
        self._used -= freed
        return freed

    def give_up(self, sequence: int, reason: str) -> None:
        """Turn a frame that can never be sent into a notice of its own; the gateway must not have been given it."""
        with self._lock, self._transaction():
            row = self._db.execute("DELETE FROM frames WHERE sequence = ? RETURNING size_bytes", (sequence,)).fetchone()
            if row is None:
                return
            self._db.execute("INSERT INTO drops VALUES (?, ?, ?)", (sequence, sequence, reason))
        self._used -= row[0]

    def forget_mark(self) -> None:
        """The source was read to its end: the next run begins it anew."""
        with self._lock, self._transaction():
            self._set("mark", "")
        self.mark = ""

    def contents(self) -> Contents:
        with self._lock:
            frames, used = self._db.execute("SELECT count(*), coalesce(sum(size_bytes), 0) FROM frames").fetchone()
            drops, dropped = self._db.execute(
                "SELECT count(*), coalesce(sum(last_sequence - first_sequence + 1), 0) FROM drops"
            ).fetchone()
        return Contents(frames_count=frames, bytes_used=used, drops_count=drops, dropped_count=dropped)

    def is_empty(self) -> bool:
        """Whether nothing waits to be acknowledged, frames or notices."""
        with self._lock:
            row = self._db.execute("SELECT EXISTS (SELECT 1 FROM frames) OR EXISTS (SELECT 1 FROM drops)").fetchone()
        return not row[0]

    def close(self) -> None:
        with self._lock:
            self._db.close()
            self._held.close()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.folder / "frames.sqlite", check_same_thread=False, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 16777216")
        db.executescript(_TABLES)
        return db

    def _begin(self, session_id: str) -> None:
        about = dict(self._db.execute("SELECT name, value FROM about").fetchall())
        if not about:
            about = {
                "device_id": self.device_id,
                "session_id": session_id or uuid4().hex,
                "next_sequence": "0",
                "sent": "-1",
                "mark": "",
            }
            with self._transaction():
                for name, value in about.items():
                    self._set(name, value)
        if about["device_id"] != self.device_id:
            raise ConfigurationError(
                f"the spool in {self.folder} belongs to device {about['device_id']}", setting="spool", do="choose another folder"
            )
        self.session_id = about["session_id"]
        self.next_sequence = int(about["next_sequence"])
        self.mark = about["mark"]
        self._sent = int(about["sent"])
        self._used = int(self._db.execute("SELECT coalesce(sum(size_bytes), 0) FROM frames").fetchone()[0])

    def _room_for(self, size: int) -> tuple[list[tuple[int, int]], str]:
        """Which frames (sequence, bytes) go so that a new one fits, and why the new one is refused if it is."""
        missing = self._used + size - self.limit_bytes
        if size > self.limit_bytes:
            return [], LARGER_THAN_SPOOL
        if missing <= 0:
            return [], ""
        evicted: list[tuple[int, int]] = []
        if self.drop == "oldest":
            unsent = self._db.execute("SELECT sequence, size_bytes FROM frames WHERE sequence > ? ORDER BY 1", (self._sent,))
            for sequence, freed in unsent:
                evicted.append((sequence, freed))
                missing -= freed
                if missing <= 0:
                    return evicted, ""
        return [], NEWEST_REFUSED

    def _note(self, sequence: int, reason: str) -> None:
        """Remember a dropped frame, in the notice of the one before it when that was not handed out yet."""
        grown = self._db.execute(
            "UPDATE drops SET last_sequence = ? WHERE last_sequence = ? AND reason = ? AND first_sequence > ?",
            (sequence, sequence - 1, reason, self._sent),
        )
        if grown.rowcount == 0:
            self._db.execute("INSERT INTO drops VALUES (?, ?, ?)", (sequence, sequence, reason))

    def _insert(self, sequence: int, capture: Capture, size: int) -> None:
        labels = json.dumps(dict(capture.labels), sort_keys=True)
        row = (
            sequence,
            capture.captured_at_us,
            capture.media_type,
            capture.passage_id,
            labels,
            capture.traceparent,
            size,
            capture.image,
        )
        self._db.execute("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _frame(self, sequence: int) -> SpooledFrame:
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

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(f"the spool in {self.folder} cannot be written: {error}") from error
            raise

    def _set(self, name: str, value: str) -> None:
        self._db.execute("INSERT INTO about VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))


def _last(entry: Entry) -> int:
    return entry.last_sequence if isinstance(entry, SpooledDrop) else entry.sequence
