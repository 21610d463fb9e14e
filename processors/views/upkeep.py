"""Holding a view against its log, and making it anew: what `hindsight views check` and `views rebuild` do.

Where the log has lost its start, a snapshot stands for what came before; without one that reaches back both refuse, since
a fold of the rest is not the view.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from processors.repeats import SOURCES_KEY
from processors.step import SnapshotAt, no_snapshot
from processors.views.catalogue import View
from processors.views.replay import digest, stored_log
from schemas.codec import Schemas
from schemas.errors import ContractError
from streams.ports import EventLog, Standing, Stored, ViewStore
from streams.view_digest import digest_of

_SWAP_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One view's partition held against the log at the position that the view reflects.

    `behind_records` is how many records the log holds beyond that position: an equal view may still be old.
    `view_digest` and `log_digest` are made anew from all states; `running_digest` is what the store keeps as they change.
    """

    view: str
    partition: int
    position: int
    behind_records: int
    keys_count: int
    view_digest: str
    log_digest: str
    different_keys: tuple[str, ...]
    running_digest: str
    running_agrees: bool

    @property
    def equal(self) -> bool:
        """Whether the states are the log's, and the running digest is that of the states."""
        return self.view_digest == self.log_digest and self.running_agrees


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """One view's partition made anew; `swapped` is False when the live one stayed ahead through every try."""

    view: str
    partition: int
    position: int
    keys_count: int
    swapped: bool


async def check(
    view: View[Any], log: EventLog, views: ViewStore, schemas: Schemas, partition: int, *, snapshot: SnapshotAt = no_snapshot
) -> Checked:
    """Compare what the view store holds with the fold of the log up to the same position.

    Args:
        snapshot: Where to begin when the log has lost its start.
    Raises:
        ContractError: the log has lost its start, and no snapshot reaches back.
    """
    standing, live = await _at_one_position(view, views, partition)
    end = (await asyncio.to_thread(log.bounds, view.topic, partition)).end
    true = Stored(position=0, states={})
    if live.position:
        true = await asyncio.to_thread(_from_log, view, log, schemas, partition, live.position, snapshot)
    keys = sorted(live.states.keys() | true.states.keys())
    return Checked(
        view=view.name,
        partition=partition,
        position=live.position,
        behind_records=max(0, end - live.position),
        keys_count=len(live.states.keys() - {SOURCES_KEY}),
        view_digest=digest(live),
        log_digest=digest(true),
        different_keys=tuple(k for k in keys if live.states.get(k) != true.states.get(k)),
        running_digest=standing.digest,
        running_agrees=standing.digest == await asyncio.to_thread(digest_of, live.states),
    )


async def _at_one_position(view: View[Any], views: ViewStore, partition: int) -> tuple[Standing, Stored]:
    """What the store says of itself and what it holds, while workers go on."""
    while True:
        standing = await views.standing(view.name, partition)
        live = await views.load_all(view.name, partition)
        if standing.position == live.position:
            return standing, live


async def rebuild(
    view: View[Any], log: EventLog, views: ViewStore, schemas: Schemas, partition: int, *, snapshot: SnapshotAt = no_snapshot
) -> Rebuilt:
    """Fold the log from its start into a shadow and swap it in, while the live view goes on.

    Raises:
        ContractError: the log has lost its start, and no snapshot reaches back; the view is left as it is.
    """
    for _ in range(_SWAP_TRIES):
        end = (await asyncio.to_thread(log.bounds, view.topic, partition)).end
        stored = await asyncio.to_thread(_from_log, view, log, schemas, partition, end, snapshot)
        if end == 0 or await views.replace(view.name, partition, stored):
            return Rebuilt(
                view=view.name,
                partition=partition,
                position=end,
                keys_count=len(stored.states.keys() - {SOURCES_KEY}),
                swapped=True,
            )
    return Rebuilt(
        view=view.name, partition=partition, position=end, keys_count=len(stored.states.keys() - {SOURCES_KEY}), swapped=False
    )


def _from_log(view: View[Any], log: EventLog, schemas: Schemas, partition: int, stop: int, snapshot: SnapshotAt) -> Stored:
    """What the view should hold at a position."""
    earliest = log.bounds(view.topic, partition).earliest
    if earliest == 0:
        return stored_log(view, log, schemas, partition, stop)
    onto = snapshot(view.name, partition, stop)
    if onto is None:
        raise ContractError(
            f"{view.topic} {partition} is kept from {earliest} on, and no snapshot of {view.name} that can be read reaches back "
            f"to it from {stop}: what came before is in the view alone",
            do="leave this view as it is; `hindsight snapshots check` says what is wrong with the snapshots",
        )
    return stored_log(view, log, schemas, partition, stop, onto=onto)
