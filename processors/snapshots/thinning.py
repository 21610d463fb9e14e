"""Which snapshots are kept: all of the newest, then one an hour, one a day, one a week. Pure, but for `remove`.

What is not kept is named by the next snapshot and its blobs go with the one after that, so that whoever has just found
it can still read it, and a taker that died in between leaves nothing behind. The two newest ones are always kept: a taker
that began before the newest one was announced folds onto the one before it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from processors.snapshots.manifest import Kept, Manifest, unpack
from processors.snapshots.taking import piece_ref
from schemas.errors import ContractError
from streams.ports import Removing

_HOUR_MS = 3600 * 1000
_DAY_MS = 24 * _HOUR_MS
_NEWEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long snapshots are kept how densely, counted back from now; after `daily_ms` one a week stays for ever."""

    all_ms: int = _DAY_MS
    hourly_ms: int = 7 * _DAY_MS
    daily_ms: int = 90 * _DAY_MS


def thinned(snapshots: Iterable[Kept], policy: Policy, now_ms: int) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
    """Which to keep, and which not, both oldest first. Of an hour, a day or a week the last one is kept."""
    ordered = sorted(snapshots, key=lambda s: (s.offset, s.known_from_ms, s.sha256))
    last = {_slot(one, policy, now_ms): one for one in ordered}
    chosen = set(last.values()) | set(ordered[-_NEWEST:])
    return tuple(s for s in ordered if s in chosen), tuple(s for s in ordered if s not in chosen)


def remove(blobs: Removing, removed: Iterable[Kept], keeping: Iterable[Manifest]) -> int:
    """Remove the blobs of snapshots that are not kept, all but those that a kept one names too.

    Returns:
        How many blobs went.
    Raises:
        BlobStoreUnavailableError: no answer; doing it again goes on.
    """
    needed = {piece.sha256 for manifest in keeping for piece in manifest.pieces if piece is not None}
    count = 0
    for one in removed:
        try:
            manifest = unpack(blobs.get(one.ref()))
        except ContractError:
            continue  # gone already, or damaged: then nobody can say what it named
        going = {piece.sha256: piece for piece in manifest.pieces if piece is not None and piece.sha256 not in needed}
        for piece in going.values():
            blobs.discard(piece_ref(piece))
        # The manifest goes last: who dies before it finds the pieces again.
        blobs.discard(one.ref())
        count += len(going) + 1
    return count


def _slot(one: Kept, policy: Policy, now_ms: int) -> tuple[str, int]:
    age_ms = now_ms - one.known_from_ms
    if age_ms < policy.all_ms:
        return one.sha256, one.offset
    for name, until_ms, length_ms in (("hour", policy.hourly_ms, _HOUR_MS), ("day", policy.daily_ms, _DAY_MS)):
        if age_ms < until_ms:
            return name, one.known_from_ms // length_ms
    return "week", one.known_from_ms // (7 * _DAY_MS)
