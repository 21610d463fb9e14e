"""Keeps the snapshots of one view's partition: takes one when it is due, announces it, and lets old ones go.

Several keepers of one partition at once are harmless: each looks for new announcements before it begins, what two of them
take at one position is the same, and no blob goes that a kept snapshot names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from processors.snapshots import manifest as manifests
from processors.snapshots import thinning
from processors.snapshots.announcing import Announced, announced, event_of, kept_as, outgoing
from processors.snapshots.manifest import Kept, Manifest
from processors.snapshots.reading import Snapshots
from processors.snapshots.taking import Taken, settled, take, with_history
from processors.views.catalogue import View
from schemas.codec import Schemas
from schemas.errors import ContractError
from streams.ports import EventLog, Removing
from streams.records import Clock, Outgoing

log = structlog.get_logger()
_KEYS_FOR_EACH_EVENT = 64
_REMOVED_TOGETHER = 16
_LOOKED_BACK = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a snapshot is due, and how long it is kept.

    A tail is never longer than `every_events`, or a quarter of the number of keys where that is more: so that writing
    snapshots costs a few times what folding costs, however many keys there are.
    """

    every_events: int
    every_ms: int
    policy: thinning.Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a keeper works on; every call of it blocks.

    `append` returns when the broker holds the record.
    """

    log: EventLog
    schemas: Schemas
    blobs: Removing
    append: Callable[[Outgoing], object]
    clock: Clock


def wanted(rules: Rules, *, offset: int, keys_count: int, since_ms: int, end: int, now_ms: int) -> int | None:
    """Up to where a snapshot is due; None when none is.

    Args:
        offset: What the newest one reflects, and `keys_count` its keys.
        since_ms: When the first record that it does not reflect was appended.
    """
    tail, longest = end - offset, max(rules.every_events, keys_count // 4)
    if tail > longest:
        return offset + longest
    # One that would write many keys anew for few events waits.
    if tail > 0 and tail * _KEYS_FOR_EACH_EVENT >= keys_count and now_ms - since_ms >= rules.every_ms:
        return end
    return None


class Keeper:
    """The snapshots of one view's partition."""

    def __init__(self, view: View[Any], partition: int, ports: Ports, rules: Rules) -> None:
        self._view = view
        self._partition = partition
        self._ports = ports
        self._rules = rules
        self._base: Manifest | None = None
        self._newest: tuple[Kept, Manifest] | None = None
        self._looked = False
        self._first_ms: int | None = None
        self._nothing_until = -1

    @property
    def view(self) -> str:
        return self._view.name

    @property
    def partition(self) -> int:
        return self._partition

    def step(self) -> Manifest | None:
        """Take and announce one snapshot if it is due; another may be due after it.

        Raises:
            TransientError: the log or the blob store does not answer.
            ContractError: none can be taken: the log has lost its start, and no snapshot reaches back.
        """
        if not self._looked:
            self._look()
        end = self._ports.log.bounds(self._view.topic, self._partition).end
        if end == self._nothing_until or self._due(end) is None:
            return None
        self._look()
        stop = self._due(end)
        return self._take(stop, end) if stop is not None else None

    def take_now(self, *, fresh: bool = False) -> Manifest | None:
        """Take one of everything up to now, due or not; None when nothing is new.

        Args:
            fresh: Fold the log from its start, as if there were no snapshot.
        """
        self._look()
        end = self._ports.log.bounds(self._view.topic, self._partition).end
        if fresh:
            self._base = None
        return self._take(end, end, fresh=fresh)

    def thin(self) -> int:
        """Announce the newest snapshot again without those that are not kept any more, and remove their blobs at once.

        Returns:
            How many snapshots were let go.
        """
        self._look()
        if self._newest is None:
            return 0
        name, newest = self._newest
        kept, gone = self._history(without=name)
        new = set(gone) - set(newest.removed)
        if new:
            newest = self._announce(with_history(newest, earlier=kept, removed=(*gone, name)))
        thinning.remove(self._ports.blobs, newest.removed, self._kept_manifests(newest))
        return len(new)

    def _look(self) -> None:
        """Find the newest snapshot, and the newest one that can be folded onto."""
        self._looked = True
        notes: list[str] = []
        reading = Snapshots(self._ports.log, self._ports.schemas, self._ports.blobs)
        newest: tuple[Kept, Manifest] | None = None
        for name in reading.names(self._view, self._partition, notes):
            if newest is None and self._newest is not None and name == self._newest[0]:
                return
            try:
                manifest = reading.manifest(name.ref())
            except ContractError as error:
                notes.append(str(error))
                continue
            newest = newest or (name, manifest)
            if manifest.fold == manifests.fold_of(self._view):
                self._base = manifest
                break
        if reading.away is not None:
            raise reading.away
        self._newest = newest or self._newest
        for note in notes:
            log.warning("a snapshot cannot be used", view=self._view.name, partition=self._partition, why=note)

    def _due(self, end: int) -> int | None:
        base = self._base
        since_ms = base.known_until_ms if base is not None else self._first()
        return wanted(
            self._rules,
            offset=base.offset if base is not None else 0,
            keys_count=base.keys_count if base is not None else 0,
            since_ms=since_ms,
            end=end,
            now_ms=self._ports.clock() // 1000,
        )

    def _first(self) -> int:
        """When the first record of the partition was appended."""
        if self._first_ms is None:
            earliest = self._ports.log.bounds(self._view.topic, self._partition).earliest
            found = next(self._ports.log.read(self._view.topic, self._partition, earliest, earliest + 1), None)
            self._first_ms = found.appended_at_ms if found is not None else None
        return self._first_ms if self._first_ms is not None else self._ports.clock() // 1000

    def _take(self, stop: int, end: int, *, fresh: bool = False) -> Manifest | None:
        offset = self._base.offset if self._base is not None else 0
        at = settled(self._ports.log, self._view.topic, self._partition, stop, after=offset)
        if at <= offset:
            self._nothing_until = end
            return None
        taken = self._fold(at)
        if taken.counted == 0 and not fresh and at - offset < self._rules.every_events:
            # Nothing that this view counts: go on from there, and say nothing.
            self._base = taken.manifest
            return None
        kept, gone = self._history()
        if len(gone) >= _REMOVED_TOGETHER:
            thinning.remove(self._ports.blobs, gone, self._kept_manifests(taken.manifest, kept))
            gone = ()
        return self._announce(with_history(taken.manifest, earlier=kept, removed=gone))

    def _fold(self, stop: int) -> Taken:
        """The snapshot at a position, folded onto the newest one, or onto the start of the log when that one is broken."""
        ports = self._ports
        try:
            return take(self._view, ports.log, ports.schemas, ports.blobs, partition=self._partition, stop=stop, base=self._base)
        except ContractError as error:
            if self._base is None:
                raise
            log.warning(
                "a snapshot is taken from the start of the log", view=self._view.name, partition=self._partition, why=str(error)
            )
            return take(self._view, ports.log, ports.schemas, ports.blobs, partition=self._partition, stop=stop)

    def _announce(self, manifest: Manifest) -> Manifest:
        ports = self._ports
        ref = ports.blobs.put(manifests.pack(manifest), manifests.MEDIA_TYPE)
        ports.append(outgoing(event_of(manifest, ref, ports.clock()), ports.schemas))
        self._base, self._newest = manifest, (kept_as(manifest, ref), manifest)
        return manifest

    def _history(self, *, without: Kept | None = None) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
        """The snapshots to name as kept from before the next one, and those to let go."""
        earlier, removed = (self._newest[1].earlier, self._newest[1].removed) if self._newest is not None else ((), ())
        known = {*earlier, *self._strays({one.sha256 for one in (*earlier, *removed)})}
        if self._newest is not None and self._newest[0] != without:
            known.add(self._newest[0])
        kept, gone = thinning.thinned(known, self._rules.policy, self._ports.clock() // 1000)
        still = {*removed, *gone} - set(kept)
        return kept, tuple(sorted(still, key=lambda one: (one.offset, one.sha256)))

    def _strays(self, named: set[str]) -> list[Kept]:
        """Snapshots that others announced beside this chain, by the looks of the newest announcements."""
        ports, recent = self._ports, list[Announced]()
        for one in announced(ports.log, ports.schemas, self._view.name, self._partition):
            if len(recent) == _LOOKED_BACK or one.taken.blob.sha256 in named:
                break
            recent.append(one)
        reading, found = Snapshots(ports.log, ports.schemas, ports.blobs), []
        newest = self._newest[0].sha256 if self._newest is not None else ""
        for one in recent:
            if one.taken.blob.sha256 != newest:
                try:
                    found.append(kept_as(reading.manifest(one.taken.blob), one.taken.blob))
                except ContractError:
                    continue
        return found

    def _kept_manifests(self, newest: Manifest, kept: tuple[Kept, ...] | None = None) -> list[Manifest]:
        """Manifests whose pieces must stay; one that is gone or damaged names nothing that anybody could read."""
        reading = Snapshots(self._ports.log, self._ports.schemas, self._ports.blobs)
        out = [newest, *([self._base] if self._base is not None else [])]
        for one in kept if kept is not None else newest.earlier:
            try:
                out.append(reading.manifest(one.ref()))
            except ContractError:
                continue
        return out
