"""Holding one view's partition against the log, again and again, each time at the cost of what is new.

A turn asks the view store for its position, running digest and number of keys (one small read), folds the log up to that
position into the checker's own fold, and compares: this finds a fold or a shell that counts otherwise, a moved position,
a missing and an extra key. Then it compares the states of the next keys, a batch a turn, byte for byte: this finds what
changed behind the store's back. Both sides are always taken at one position, so a view that moves meanwhile
is no difference. `processors/views/watching.py` acts on what is found.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from processors.repeats import SOURCES_KEY
from processors.step import SnapshotAt, no_snapshot
from processors.views.catalogue import View
from processors.views.own_fold import OwnFold
from schemas.codec import Schemas
from streams.ports import EventLog, Standing, ViewStore
from streams.view_digest import digest_of, toggled

FOLD_RECORDS = 1000
SWEEP_KEYS = 500
_KEYS_NAMED = 20
_NAMED_AMONG = 100_000


class Outcome(Enum):
    """What a turn came to. BEHIND: the own fold has not reached the view's position yet."""

    EQUAL = "equal"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A view's partition that is not what the log says. `keys` names some of the keys, where they are known."""

    view: str
    partition: int
    held: Standing
    wanted: Standing
    keys: tuple[str, ...]
    what: str


class ViewCheck:
    """The checks of one view's partition.

    Args:
        folder: Where the own fold lies; it goes with the process.
        snapshot: Where to begin when the log has lost its start.
    """

    def __init__(
        self,
        view: View[Any],
        partition: int,
        *,
        log: EventLog,
        views: ViewStore,
        schemas: Schemas,
        folder: Path,
        snapshot: SnapshotAt = no_snapshot,
    ) -> None:
        self.view = view
        self.partition = partition
        self._log = log
        self._views = views
        self._schemas = schemas
        self._snapshot = snapshot
        self.own = OwnFold(view, partition, folder)
        self._pinned: Standing | None = None
        self._swept_to = ""
        self.sweeps = 0

    async def turn(self, *, name_keys: bool = True) -> Outcome | Difference:
        """One step: compare if the fold can reach the view's position, and sweep one batch of keys.

        Args:
            name_keys: Whether to look for the keys of a difference, where the view is not too large for that.
        Raises:
            TransientError: the log, the registry or the view store is away.
        """
        if self._pinned is None:
            self._pinned = await self._views.standing(self.view.name, self.partition)
        pinned = self._pinned
        bounds = await asyncio.to_thread(self._log.bounds, self.view.topic, self.partition)
        if pinned.position > bounds.end:
            return self._differs(pinned, f"it stands at {pinned.position}, and the log ends at {bounds.end}")
        if pinned.position < self.own.position:
            # The store was emptied, or somebody moved it: only a fold from the start can tell.
            self.start_anew()
            self._pinned = pinned
        if self.own.position < bounds.earliest:
            return await self._adopt(bounds.earliest)
        await self._advance(pinned.position)
        if self.own.position < pinned.position:
            return Outcome.BEHIND
        self._pinned = None
        if pinned != self.own.standing:
            return await self._pinpointed(pinned, name_keys=name_keys)
        return await self._sweep()

    @property
    def is_mid_sweep(self) -> bool:
        """Whether more states wait to be compared before every one was."""
        return self._swept_to != ""

    def start_anew(self) -> None:
        """Forget the own fold and begin with the first record."""
        self.own.reset()
        self._pinned, self._swept_to, self.sweeps = None, "", 0

    async def _advance(self, stop: int) -> None:
        await asyncio.to_thread(self.own.advance, self._log, self._schemas, stop, most=FOLD_RECORDS)

    async def _sweep(self) -> Outcome | Difference:
        """Compare the next keys, at whatever position the store is by now."""
        keys = self.own.keys_after(self._swept_to, SWEEP_KEYS)
        held = await self._views.load(self.view.name, self.partition, keys)
        await self._advance(held.position)
        if held.position != self.own.position:
            return Outcome.BEHIND
        wanted = self.own.states_of(keys)
        differing = tuple(k for k in keys if held.states.get(k) != wanted[k])
        if differing:
            what = f"{len(differing)} of {len(keys)} states looked at are not what the log says"
            return self._differs(self._as_held(held.states, wanted, differing), what, differing)
        whole = len(keys) < SWEEP_KEYS
        self._swept_to = "" if whole else keys[-1]
        self.sweeps += whole
        return Outcome.EQUAL

    async def _adopt(self, earliest: int) -> Outcome | Difference:
        """The log's first records are gone: a snapshot has counted them. Without one the view is taken at its word for what they
        gave, if it agrees with its own digest."""
        self._pinned = None
        before = await self._views.standing(self.view.name, self.partition)
        base = await asyncio.to_thread(self._snapshot, self.view.name, self.partition, before.position)
        if base is not None:
            self.own.adopt(base)
            return Outcome.BEHIND
        held = await self._views.load_all(self.view.name, self.partition)
        if held.position != before.position or held.position < earliest:
            return Outcome.BEHIND
        if digest_of(held.states) != before.digest:
            return self._differs(before, "its states are not those that its running digest tells")
        self.own.adopt(held)
        return Outcome.BEHIND

    async def _pinpointed(self, pinned: Standing, *, name_keys: bool) -> Difference:
        """Say what differs, and name keys if the view still stands where it was found to differ."""
        what = "its running digest is not that of the log"
        if pinned.keys_count != self.own.keys_count:
            what = f"it holds {pinned.keys_count} keys, and the log gives {self.own.keys_count}"
        if not name_keys or pinned.keys_count > _NAMED_AMONG:
            return self._differs(pinned, what)
        held = await self._views.load_all(self.view.name, self.partition)
        if held.position != self.own.position:
            return self._differs(pinned, what)
        wanted = self.own.as_stored().states
        names = {k for k, state in held.states.items() if wanted.get(k) != state}
        return self._differs(pinned, what, tuple(sorted(names | (wanted.keys() - held.states.keys()))))

    def _as_held(self, held: Mapping[str, bytes], wanted: Mapping[str, bytes], differing: tuple[str, ...]) -> Standing:
        """What the store would say of itself if it made its digest anew."""
        digest, keys_count = self.own.digest, self.own.keys_count
        for key in differing:
            digest = toggled(digest, key, wanted[key])
            if key in held:
                digest = toggled(digest, key, held[key])
            else:
                keys_count -= 1
        return Standing(position=self.own.position, digest=digest, keys_count=keys_count)

    def _differs(self, held: Standing, what: str, keys: tuple[str, ...] = ()) -> Difference:
        self._pinned = None
        return Difference(
            view=self.view.name,
            partition=self.partition,
            held=held,
            wanted=self.own.standing,
            keys=tuple(k for k in keys if k != SOURCES_KEY)[:_KEYS_NAMED] or keys[:1],
            what=what,
        )
