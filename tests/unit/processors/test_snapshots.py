"""When a snapshot is due, which are kept, how a key finds its piece, and what changes a fold's name."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from processors.snapshots import pieces
from processors.snapshots.keeping import Keeper, Ports, Rules, wanted
from processors.snapshots.manifest import Kept, fold_of
from processors.snapshots.reading import Snapshots
from processors.snapshots.spool import Spool
from processors.snapshots.taking import settled, take
from processors.snapshots.thinning import Policy, thinned
from processors.views.catalogue import VIEWS
from processors.views.folds import DeviceFrames
from schemas.catalogue import ASSESSMENTS
from schemas.codec import FixedSchemas
from schemas.errors import BlobStoreUnavailableError, ContractError, DecodeError
from streams.memory import MemoryBlobStore, MemoryLog
from streams.records import Outgoing, Record
from tests.benchmarks import made_log

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
RULES = Rules(every_events=100, every_ms=60_000, policy=Policy())
SCHEMAS = FixedSchemas()
FRAMES = VIEWS["device_frames"]


def kept(number: int, from_ms: int) -> Kept:
    return Kept(offset=number, fold="f", known_from_ms=from_ms, known_until_ms=from_ms + 1, sha256=f"{number:064x}", size_bytes=1)


def made(frames: int = 60, *, together: int = 1) -> MemoryLog:
    """A log on one partition whose broker takes `together` records in each millisecond."""
    now = [0]

    def clock() -> int:
        now[0] += 1
        return 10**12 + now[0] // together * 1000

    log = MemoryLog(clock, partitions=1)
    for one in made_log.chain(made_log.Site(frames=frames, devices=3, partitions=1)):
        record = made_log.record_of(one, 0, SCHEMAS)
        out = Outgoing(topic=record.topic, key=record.key or b"", value=record.value, headers=record.headers, partition=0)
        log.append_now(out)
    return log


@dataclass
class Told:
    """Ports of a keeper, and what it announced."""

    log: Any
    blobs: Any
    now_us: int = 10**15

    def ports(self) -> Ports:
        return Ports(log=self.log, schemas=SCHEMAS, blobs=self.blobs, append=self.log.append_now, clock=lambda: self.now_us)


@pytest.mark.parametrize(
    ("tail", "keys", "age_ms", "expected"),
    [
        (0, 0, 10**9, None),
        (100, 0, 0, None),
        (101, 0, 0, 1100),
        (5000, 0, 0, 1100),
        (1, 10, 59_999, None),
        (1, 10, 60_000, 1001),
        (1, 65, 60_000, None),
        (2, 65, 60_000, 1002),
        (200, 1000, 0, None),
        (251, 1000, 0, 1250),
    ],
)
def test_a_snapshot_is_due_by_events_or_by_time(tail: int, keys: int, age_ms: int, expected: int | None) -> None:
    """After so many events, or a quarter of the keys where that is more; by age, unless few events would rewrite many keys."""
    found = wanted(RULES, offset=1000, keys_count=keys, since_ms=0, end=1000 + tail, now_ms=age_ms)
    assert found == expected


def test_old_snapshots_are_kept_an_hour_a_day_and_a_week_apart() -> None:
    """All of the last day, the last of each hour of a week, of each day of three months, and of each week from then on."""
    now_ms = 1000 * DAY_MS
    count = 4 * 24 * 200
    snapshots = [kept(n, now_ms - (count - 1 - n) * HOUR_MS // 4) for n in range(count)]
    stay, gone = thinned(snapshots, Policy(), now_ms)
    assert sorted((*stay, *gone), key=lambda s: s.offset) == snapshots
    ages_h = sorted((now_ms - one.known_from_ms) / HOUR_MS for one in stay)
    assert len([a for a in ages_h if a < 24]) == 96
    assert 6 * 24 <= len([a for a in ages_h if 24 <= a < 7 * 24]) <= 6 * 24 + 1
    assert 83 <= len([a for a in ages_h if 7 * 24 <= a < 90 * 24]) <= 84
    assert len([a for a in ages_h if a >= 90 * 24]) in (16, 17)
    again, more = thinned(stay, Policy(), now_ms)
    assert (again, more) == (stay, ())


def test_the_two_newest_are_never_let_go() -> None:
    """Also when they are old and lie in one hour."""
    snapshots = [kept(n, n * 1000) for n in range(10)]
    assert [one.offset for one in thinned(snapshots, Policy(), 10**15)[0]] == [8, 9]


def test_keys_spread_over_buckets_and_split_in_two() -> None:
    """Buckets grow with the square root of the keys; with twice as many, each bucket's keys are in its two halves."""
    assert [pieces.buckets_for(n) for n in (0, 1, 3, 4, 100, 10_000, 1_000_000)] == [1, 1, 1, 2, 8, 64, 512]
    hashes = [pieces.hash_of(f"gate-{n}") for n in range(5000)]
    counts = [0] * 64
    for hashed in hashes:
        counts[pieces.bucket_of(hashed, 64)] += 1
        assert pieces.bucket_of(hashed, 128) // 2 == pieces.bucket_of(hashed, 64)
    assert min(counts) > 40
    assert max(counts) < 130


@pytest.mark.parametrize("key", ["gate-1", "", 'a"b', '","state":', "ä\n日本", "\\", 'x","state":{'])
def test_any_name_is_found_in_its_piece(key: str) -> None:
    """Whatever signs a device's name has, the state of that name and of no other is found."""
    states = {key: b'{"n":1}', "other": b'{"n":2}', f"{key}x": b'{"n":3}'}
    content = pieces.pack({"offset": 3}, pieces.lines_of(states))
    assert pieces.states_of(content) == states
    assert {name: pieces.state_of(content, name) for name in states} == states
    assert pieces.state_of(content, "not there") is None


@pytest.mark.parametrize("content", [b"", b"noise", b"\x1f\x8b", pieces.pack({}, pieces.lines_of({"a": b"{}"}))[:-4]])
def test_what_is_no_piece_is_refused(content: bytes) -> None:
    """Truncated and other bytes are an error that says so, never the compressor's own."""
    with pytest.raises(DecodeError):
        pieces.states_of(content)


def test_a_fold_has_another_name_when_its_state_or_version_changes() -> None:
    """A field more in the state, or a version, and snapshots of the older fold are not read."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class More(DeviceFrames):
        refused_count: int = 0

    names = {fold_of(FRAMES), fold_of(replace(FRAMES, initial=More())), fold_of(replace(FRAMES, version=FRAMES.version + 1))}
    assert len(names) == 3
    assert fold_of(FRAMES) == fold_of(replace(FRAMES, name="another"))


def test_a_spool_keeps_the_order_in_memory_and_on_disk() -> None:
    """What was added to a group comes back in its order, before and after the memory is full."""
    with Spool(lambda content: content.decode(), most=3) as spool:
        for n in range(10):
            spool.add(n % 2, f"key-{n}", str(n), str(n).encode())
        assert list(spool.items(0)) == [(f"key-{n}", str(n)) for n in range(0, 10, 2)]
        assert list(spool.items(1)) == [(f"key-{n}", str(n)) for n in range(1, 10, 2)]
        assert list(spool.items(7)) == []


def test_a_snapshot_ends_between_two_milliseconds() -> None:
    """Records of one millisecond are all in it or none; with nothing after them, they wait for the next."""
    log = made(together=10)
    end = log.bounds(ASSESSMENTS, 0).end
    times = [r.appended_at_ms for r in log.read(ASSESSMENTS, 0, 0, end)]
    for cut in range(1, end + 1):
        at = settled(log, ASSESSMENTS, 0, cut)
        assert at <= cut or all(t == times[0] for t in times[:cut])
        assert at == 0 or times[at - 1] < times[at]
    assert settled(log, ASSESSMENTS, 0, end, after=end) == end
    assert settled(MemoryLog(lambda: 0), ASSESSMENTS, 0, 0) == 0


def test_what_did_not_change_is_written_once() -> None:
    """A tail that touches few keys stores few pieces; the others are the blobs of the snapshot before."""
    log, blobs = made(400), MemoryBlobStore()
    view = VIEWS["frame_outcomes"]
    first = take(view, log, SCHEMAS, blobs, partition=0, stop=300).manifest
    count = len(blobs.contents)
    second = take(view, log, SCHEMAS, blobs, partition=0, stop=304, base=first).manifest
    assert len(blobs.contents) - count <= 4
    assert len(set(first.pieces) & set(second.pieces)) >= len(first.pieces) - 4


class Away(MemoryBlobStore):
    """A store that does not answer."""

    def get(self, ref: Any) -> bytes:
        raise BlobStoreUnavailableError("nobody answers")


def test_a_store_that_is_away_is_asked_once_and_the_log_answers() -> None:
    """The answer comes from the start of the log, and says why."""
    log = made()
    told = Told(log, MemoryBlobStore())
    assert Keeper(FRAMES, 0, told.ports(), RULES).take_now() is not None
    snapshots = Snapshots(log, SCHEMAS, Away())
    starts = list(snapshots.starts(FRAMES, 0, "gate-1", 50))
    assert [start.offset for start in starts] == [0]
    assert "nobody answers" in starts[0].notes[0]
    assert snapshots.away is not None


def test_a_tail_that_counts_nothing_makes_no_snapshot() -> None:
    """A snapshot's own announcement lies on the topic that alerts are folded from: it is no reason for another."""
    log = made(400)
    told = Told(log, MemoryBlobStore())
    alerts = VIEWS["alerts"]
    keepers = [Keeper(view, 0, told.ports(), replace(RULES, every_ms=1)) for view in (FRAMES, alerts)]
    for _ in range(4):
        for keeper in keepers:
            while keeper.step() is not None:
                pass
    end = log.bounds(alerts.topic, 0).end
    for _ in range(4):
        for keeper in keepers:
            keeper.step()
    assert log.bounds(alerts.topic, 0).end == end


def test_a_log_without_its_start_and_without_snapshots_can_have_none() -> None:
    """Taking one would make a state of half the events: it is refused."""

    class Cut(MemoryLog):
        def bounds(self, topic: str, partition: int) -> Any:
            return replace(super().bounds(topic, partition), earliest=10)

        def read(self, topic: str, partition: int, start: int, stop: int) -> Any:
            return (r for r in super().read(topic, partition, 0, stop) if r.offset >= max(start, 10))

    whole = made()
    cut = Cut(lambda: 0, partitions=1)
    cut._records = whole._records
    with pytest.raises(ContractError, match="kept from 10"):
        Keeper(FRAMES, 0, Told(cut, MemoryBlobStore()).ports(), RULES).take_now()


def test_the_folds_give_what_they_gave_when_their_version_was_set() -> None:
    """A fold that gives other states for the same events needs a higher version, or old snapshots would be silently wrong.

    When this fails and the change is meant: raise `version` of the view in processors/views/catalogue.py, and set the digest.
    """
    log = made(200)
    for one in made_log.releases():
        record: Record = made_log.record_of(one, 0, SCHEMAS)
        log.append_now(
            Outgoing(topic=record.topic, key=record.key or b"", value=record.value, headers=record.headers, partition=0)
        )
    found = {}
    for view in (VIEWS[name] for name in PINNED):
        end = settled(log, view.topic, 0, log.bounds(view.topic, 0).end)
        manifest = take(view, log, SCHEMAS, MemoryBlobStore(), partition=0, stop=end, buckets=1).manifest
        assert manifest.keys_count > 0, f"{view.name} is not tried"
        (piece,) = manifest.pieces
        assert piece is not None
        found[view.name] = (view.version, piece.digest[:16])
    assert found == PINNED


PINNED = {
    "alerts": (1, "ba3f27b626df40f3"),
    "device_features": (1, "62d80dd39b4a4fc4"),
    "device_frames": (2, "f936daa608cdd9c2"),
    "device_results": (4, "8e49363a0fd8bfdd"),
    "frame_outcomes": (2, "edcd6c5b961a8e6f"),
    "releases": (3, "3509f47101d88774"),
    "results_by_frame": (3, "8414ce02278e827a"),
}
