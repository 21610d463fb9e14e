"""A checker's own fold of one view's partition, kept on disk beside the view store, so that a check costs only the tail.

It holds what the view store should hold at its `position`: every state, the sources seen, the running digest. Memory is
bounded whatever the view's size. It belongs to one process and goes with its folder; nothing is ever read from it but
by the checker (`processors/views/checking.py`).
"""

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from processors.repeats import SOURCES_KEY, Seen
from processors.views.catalogue import View
from processors.views.replay import Reader
from schemas.codec import Schemas
from schemas.plain import canonical_json, from_plain
from streams.ports import EventLog, Standing, Stored
from streams.view_digest import EMPTY, toggled

_TABLE = "CREATE TABLE states (key TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID"


class OwnFold:
    """One view's partition, folded from the log and from nothing else.

    `is_whole` says whether it began at the log's first record; one that was adopted from a view did not.
    """

    def __init__(self, view: View[Any], partition: int, folder: Path) -> None:
        self.view = view
        self.partition = partition
        self._folder = folder
        self._file: Path | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew, before the first record."""
        self.close()
        self._file = self._folder / f"{uuid.uuid4().hex}.sqlite"
        # Several threads use it, one after the other. Nothing of it outlives the process, so nothing is synced.
        self._states = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        self._states.execute("PRAGMA journal_mode=OFF")
        self._states.execute("PRAGMA synchronous=OFF")
        self._states.execute(_TABLE)
        self.position, self.keys_count, self.digest = 0, 0, EMPTY
        self.is_whole = True
        self._seen = Seen()

    def close(self) -> None:
        if self._file is not None:
            self._states.close()
            self._file.unlink(missing_ok=True)
            self._file = None

    @property
    def standing(self) -> Standing:
        """What the view store should say at this position."""
        return Standing(position=self.position, digest=self.digest, keys_count=self.keys_count)

    def advance(self, log: EventLog, schemas: Schemas, stop: int, *, most: int) -> None:
        """Fold the records up to `stop`, and at most `most` of them.

        Raises:
            TransientError: the log or the registry is away.
        """
        stop = min(stop, self.position + most)
        if stop <= self.position:
            return
        changed: dict[str, Any] = {}
        reader = Reader(self.view, schemas, self._seen)
        for record in log.read(self.view.topic, self.partition, self.position, stop):
            if (found := reader.read(record)) is None:
                continue
            key, event = found
            if key is not None:
                changed[key] = self.view.fold(changed[key] if key in changed else self._state(key), event)
        written = {key: canonical_json(state) for key, state in changed.items()}
        self._write({**written, SOURCES_KEY: canonical_json(reader.seen)})
        self._seen, self.position = reader.seen, stop

    def adopt(self, stored: Stored) -> None:
        """Take over a view's states as they are: for a log whose first records are gone."""
        self.reset()
        self.is_whole = False
        self._write(stored.states)
        raw = stored.states.get(SOURCES_KEY)
        self._seen = Seen() if raw is None else from_plain(Seen, json.loads(raw))
        self.position = stored.position

    def keys_after(self, key: str, count: int) -> tuple[str, ...]:
        """The next keys in their order, the reserved one too; begins with ""."""
        rows = self._states.execute("SELECT key FROM states WHERE key > ? ORDER BY key LIMIT ?", (key, count))
        return tuple(row[0] for row in rows)

    def states_of(self, keys: tuple[str, ...]) -> dict[str, bytes]:
        """States of the named keys that have one."""
        return {key: state for key in keys if (state := self._raw(key)) is not None}

    def as_stored(self) -> Stored:
        """All states, read when they are asked for; holds until the next change."""
        return Stored(position=self.position, states=_States(self._states, self.keys_count))

    def _raw(self, key: str) -> bytes | None:
        row = self._states.execute("SELECT state FROM states WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def _state(self, key: str) -> Any:
        raw = self._raw(key)
        return self.view.initial if raw is None else from_plain(self.view.state_type, json.loads(raw))

    def _write(self, states: Mapping[str, bytes]) -> None:
        self._states.execute("BEGIN")
        for key, state in states.items():
            before = self._raw(key)
            if before is None:
                self.keys_count += 1
            else:
                self.digest = toggled(self.digest, key, before)
            self.digest = toggled(self.digest, key, state)
            self._states.execute("INSERT OR REPLACE INTO states VALUES (?, ?)", (key, state))
        self._states.execute("COMMIT")


class _States(Mapping[str, bytes]):
    """The table as a mapping, in the order of its keys."""

    def __init__(self, states: sqlite3.Connection, count: int) -> None:
        self._states, self._count = states, count

    def __getitem__(self, key: str) -> bytes:
        row = self._states.execute("SELECT state FROM states WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __iter__(self) -> Iterator[str]:
        return (row[0] for row in self._states.execute("SELECT key FROM states ORDER BY key"))

    def __len__(self) -> int:
        return self._count
