"""A log that has lost its start to retention: what is asked of it is answered from snapshots, or refused, and never by halves."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processors.kept import KeptStates
from processors.lookback.difference import difference
from processors.lookback.known import known_at
from processors.snapshots.keeping import Keeper, Ports, Rules
from processors.snapshots.reading import Snapshots
from processors.snapshots.thinning import Policy
from processors.step import Ports as StepPorts
from processors.step import SnapshotAt, no_snapshot
from processors.views import upkeep
from processors.views.catalogue import VIEWS
from processors.views.checking import Difference, ViewCheck
from processors.views.replay import stored_log
from processors.views.step import ViewStep
from schemas.catalogue import ASSESSMENTS
from schemas.codec import FixedSchemas
from schemas.errors import ContractError
from streams.memory import MemoryBlobStore, MemoryLog, MemoryViewStore
from streams.records import Outgoing
from tests.benchmarks import made_log

SCHEMAS = FixedSchemas()
FRAMES = VIEWS["device_frames"]


class Cut(MemoryLog):
    """A log of which retention removed what lies before `kept_from` of the assessments."""

    kept_from = 0

    def bounds(self, topic: str, partition: int) -> Any:
        return replace(super().bounds(topic, partition), earliest=self.kept_from if topic == ASSESSMENTS else 0)

    def read(self, topic: str, partition: int, start: int, stop: int) -> Any:
        return (
            r for r in super().read(topic, partition, 0, stop) if r.offset >= max(start, self.bounds(topic, partition).earliest)
        )

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        return max(super().offset_at(topic, partition, at_ms), self.bounds(topic, partition).earliest)


def made() -> tuple[Cut, MemoryBlobStore]:
    """200 assessments, a millisecond apart, with a snapshot after every twenty."""
    now_us = [10**12]
    log, blobs = Cut(lambda: now_us[0], partitions=1), MemoryBlobStore()
    for one in made_log.chain(made_log.Site(frames=200, devices=3, partitions=1)):
        record = made_log.record_of(one, 0, SCHEMAS)
        now_us[0] += 1000
        out = Outgoing(topic=record.topic, key=record.key or b"", value=record.value, headers=record.headers, partition=0)
        log.append_now(out)
    ports = Ports(log=log, schemas=SCHEMAS, blobs=blobs, append=log.append_now, clock=lambda: now_us[0])
    keeper = Keeper(FRAMES, 0, ports, Rules(every_events=20, every_ms=10**9, policy=Policy()))
    while keeper.step() is not None:
        pass
    return log, blobs


def snapshots_in(log: Cut, blobs: MemoryBlobStore) -> SnapshotAt:
    return lambda view, partition, stop: Snapshots(log, SCHEMAS, blobs).whole(VIEWS[view], partition, stop)


def test_a_difference_over_what_is_gone_compares_the_states_and_says_so() -> None:
    """The first moment is answered by a snapshot from before what is kept: what came in between is in the second state all the
    same, and its events are not listed."""
    log, blobs = made()

    def reading() -> Snapshots:
        return Snapshots(log, SCHEMAS, blobs)

    names = sorted(reading().names(FRAMES, 0, []), key=lambda one: one.offset)
    first_us, second_us = names[1].known_from_ms * 1000, 2 * 10**12
    whole = difference(log, SCHEMAS, FRAMES, "gate-1", first_us, second_us, snapshots=reading())
    log.kept_from = names[5].offset - 5
    found = difference(log, SCHEMAS, FRAMES, "gate-1", first_us, second_us, snapshots=reading())
    assert [(c.field, c.before, c.after) for c in found.changed] == [(c.field, c.before, c.after) for c in whole.changed]
    assert found.events_count == 0
    assert found.notes == (f"{ASSESSMENTS} 0 is kept from {log.kept_from} on: what changed device_frames since 40 is not listed",)
    assert found.read_up_to == whole.read_up_to
    assert known_at(log, SCHEMAS, FRAMES, "gate-1", first_us, snapshots=reading()).read_up_to.offset == names[1].offset


def test_a_view_is_checked_and_made_anew_onto_a_snapshot() -> None:
    """What the log no longer has is in the snapshot: the view stays what it was."""
    log, blobs = made()
    views = MemoryViewStore()
    asyncio.run(upkeep.rebuild(FRAMES, log, views, SCHEMAS, 0, snapshot=snapshots_in(log, blobs)))
    whole = asyncio.run(views.load_all(FRAMES.name, 0))
    log.kept_from = 55
    assert asyncio.run(upkeep.check(FRAMES, log, views, SCHEMAS, 0, snapshot=snapshots_in(log, blobs))).equal
    assert asyncio.run(upkeep.rebuild(FRAMES, log, views, SCHEMAS, 0, snapshot=snapshots_in(log, blobs))).swapped
    assert asyncio.run(views.load_all(FRAMES.name, 0)) == whole


def test_a_view_is_left_as_it_is_where_nothing_reaches_back() -> None:
    """A fold of the rest would count less than the view: neither swapped in nor held against it."""
    log, _ = made()
    views = MemoryViewStore()
    asyncio.run(upkeep.rebuild(FRAMES, log, views, SCHEMAS, 0))
    whole = asyncio.run(views.load_all(FRAMES.name, 0))
    log.kept_from = 55
    for work in (upkeep.check, upkeep.rebuild):
        with pytest.raises(ContractError, match="kept from 55 on, and no snapshot of device_frames"):
            asyncio.run(work(FRAMES, log, views, SCHEMAS, 0, snapshot=snapshots_in(log, MemoryBlobStore())))
    assert asyncio.run(views.load_all(FRAMES.name, 0)) == whole


def filled_anew(log: Cut, blobs: MemoryBlobStore | None) -> tuple[MemoryViewStore, int]:
    """What a worker makes of an emptied view store; and where the log ends."""
    views, end = MemoryViewStore(), log.bounds(ASSESSMENTS, 0).end
    snapshot = no_snapshot if blobs is None else snapshots_in(log, blobs)
    ports: StepPorts[Any] = StepPorts(log=log, appender=log, views=views, schemas=SCHEMAS, clock=lambda: 0, snapshot=snapshot)
    asyncio.run(KeptStates(ViewStep(FRAMES), ports, 0).load(("gate-1",), end))
    return views, end


def test_an_emptied_view_is_filled_from_a_snapshot_when_the_log_lost_its_start() -> None:
    """What retention removed was counted once, and stays counted."""
    log, blobs = made()
    whole = stored_log(FRAMES, log, SCHEMAS, 0, log.bounds(ASSESSMENTS, 0).end)
    log.kept_from = 55
    views, end = filled_anew(log, blobs)
    assert asyncio.run(views.load_all(FRAMES.name, 0)) == whole
    assert whole.position == end


def test_a_view_that_was_filled_from_what_is_left_is_found(tmp_path: Path) -> None:
    """A check begins at a snapshot, and does not take the view's word for what came before."""
    log, blobs = made()
    log.kept_from = 55
    views, _ = filled_anew(log, None)
    check = ViewCheck(
        FRAMES,
        0,
        log=log,
        views=views,
        schemas=SCHEMAS,
        folder=tmp_path,
        snapshot=snapshots_in(log, blobs),
    )
    assert isinstance([asyncio.run(check.turn()) for _ in range(3)][-1], Difference)
