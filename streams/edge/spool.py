"""The edge device's spool: frames on disk until the gateway has acknowledged them, in a bounded number of bytes.

One spool is one session of one device: the session goes on when the program does, and its sequence never goes back, so
a frame keeps its identity however often it is sent. When `offer` returns, the frame is on the disk: every commit is
synced (SQLite, WAL, synchronous=FULL), so neither kill -9 nor a power cut loses it or gives its number to another.

What is given up is remembered too: a run of dropped frames is one notice, in its place in the sequence, sent like a
frame. A frame or notice that was once handed out for sending is never dropped or changed, since the gateway may have
it: so what is spooled, acknowledged and noticed as dropped always adds up to what was offered. The client acts next.
"""

import fcntl
import sqlite3
from itertools import islice
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Literal
from uuid import uuid4

from schemas.errors import ConfigurationError
from streams.edge.entries import Capture, Contents, Entry, Spooled, SpooledDrop
from streams.edge.tables import SpoolTables

DropPolicy = Literal["oldest", "newest", "block"]
OLDEST_FIRST = "spool_full_oldest_first"
NEWEST_REFUSED = "spool_full_newest_refused"
LARGER_THAN_SPOOL = "larger_than_spool"
_ROW_BYTES = 512


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
            self._tables = SpoolTables(folder / "frames.sqlite")
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
            with self._tables.transaction():
                evicted, refused = self._room_for(size)
                for old, _ in evicted:
                    self._tables.delete_frame(old)
                    self._note(old, OLDEST_FIRST)
                if refused:
                    self._note(sequence, refused)
                else:
                    self._tables.insert_frame(sequence, capture, size)
                self._tables.set_about(next_sequence=str(sequence + 1), mark=capture.mark)
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
        with self._lock:
            with self._tables.transaction():
                taken = self._entries(after, frames, size_bytes)
                sent = max(self._sent, *(_last(entry) for entry in taken)) if taken else self._sent
                if sent > self._sent:
                    self._tables.set_about(sent=str(sent))
            self._sent = sent
        return taken

    def remove(self, sequences: tuple[int, ...]) -> None:
        """Forget entries that were acknowledged."""
        with self._lock:
            with self._tables.transaction():
                freed = sum(self._tables.delete_frame(sequence) for sequence in sequences)
                for sequence in sequences:
                    self._tables.delete_drop(sequence)
            self._used -= freed

    def give_up(self, sequence: int, reason: str) -> None:
        """Turn a frame that can never be sent into a notice of its own; the gateway must not have been given it."""
        with self._lock:
            with self._tables.transaction():
                freed = self._tables.delete_frame(sequence)
                if freed:
                    self._tables.insert_drop(sequence, reason)
            self._used -= freed

    def forget_mark(self) -> None:
        """The source was read to its end: the next run begins it anew."""
        with self._lock:
            with self._tables.transaction():
                self._tables.set_about(mark="")
            self.mark = ""

    def contents(self) -> Contents:
        with self._lock:
            return self._tables.contents()

    def is_empty(self) -> bool:
        """Whether nothing waits to be acknowledged, frames or notices."""
        with self._lock:
            return self._tables.is_empty()

    def close(self) -> None:
        with self._lock:
            self._tables.close()
            self._held.close()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _begin(self, session_id: str) -> None:
        about = self._tables.about()
        if not about:
            about = {
                "device_id": self.device_id,
                "session_id": session_id or uuid4().hex,
                "next_sequence": "0",
                "sent": "-1",
                "mark": "",
            }
            with self._tables.transaction():
                self._tables.set_about(**about)
        if about["device_id"] != self.device_id:
            raise ConfigurationError(
                f"the spool in {self.folder} belongs to device {about['device_id']}", setting="spool", do="choose another folder"
            )
        self.session_id = about["session_id"]
        self.next_sequence = int(about["next_sequence"])
        self.mark = about["mark"]
        self._sent = int(about["sent"])
        self._used = self._tables.contents().bytes_used

    def _room_for(self, size: int) -> tuple[list[tuple[int, int]], str]:
        """Which frames (sequence, bytes) go so that a new one fits, and why the new one is refused if it is."""
        missing = self._used + size - self.limit_bytes
        if size > self.limit_bytes:
            return [], LARGER_THAN_SPOOL
        if missing <= 0:
            return [], ""
        evicted: list[tuple[int, int]] = []
        for sequence, freed in self._tables.frame_sizes(self._sent) if self.drop == "oldest" else ():
            evicted.append((sequence, freed))
            missing -= freed
            if missing <= 0:
                return evicted, ""
        return [], NEWEST_REFUSED

    def _note(self, sequence: int, reason: str) -> None:
        """Remember a dropped frame, in the notice of the one before it when that was not handed out yet."""
        if not self._tables.grow_drop(sequence, reason, above=self._sent):
            self._tables.insert_drop(sequence, reason)

    def _entries(self, after: int, frames: int, size_bytes: int) -> tuple[Entry, ...]:
        sizes = list(islice(self._tables.frame_sizes(after), frames))
        wanted: list[int] = []
        total = 0
        for sequence, size in sizes:
            if wanted and total + size > size_bytes:
                break
            wanted.append(sequence)
            total += size
        # A notice behind the first frame that is left out waits for its turn.
        beyond = sizes[len(wanted)][0] if len(wanted) < len(sizes) else None
        entries: list[Entry] = [self._tables.frame(sequence) for sequence in wanted]
        entries += [drop for drop in self._tables.drops(after, frames) if beyond is None or drop.sequence < beyond]
        return tuple(sorted(entries, key=lambda entry: entry.sequence)[:frames])


def _last(entry: Entry) -> int:
    return entry.last_sequence if isinstance(entry, SpooledDrop) else entry.sequence
