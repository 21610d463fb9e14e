"""Views held against the log without end: what is planted is found, told once, repaired from the log, and told again."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from processors.emit import key_of
from processors.kept import KeptStates
from processors.step import Ports
from processors.views import checking, folds
from processors.views.alarms import Alarms
from processors.views.catalogue import VIEWS, View
from processors.views.checking import ViewCheck
from processors.views.replay import as_stored, fold_log
from processors.views.step import ViewStep
from processors.views.upkeep import check
from processors.views.watching import ViewWatch
from schemas.catalogue import ASSESSMENTS, MONITORING, TOPIC_OF
from schemas.codec import FixedSchemas, decode, encode
from schemas.errors import ViewStoreUnavailableError
from schemas.events import AlertCleared, AlertRaised
from streams.memory import MemoryLog, MemoryViewStore
from streams.ports import Standing, Stored
from streams.records import Bounds, Outgoing, Record
from tests.given import AT_US, accepted

SCHEMAS = FixedSchemas()
VIEW = VIEWS["device_frames"]
OUTCOMES = VIEWS["frame_outcomes"]


class CutLog(MemoryLog):
    """A log whose first records retention removed."""

    def __init__(self) -> None:
        super().__init__(lambda: AT_US, partitions=1)
        self.earliest = 0

    def bounds(self, topic: str, partition: int) -> Bounds:
        whole = super().bounds(topic, partition)
        return Bounds(earliest=self.earliest if topic == ASSESSMENTS else 0, end=whole.end)

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        yield from super().read(topic, partition, max(start, self.bounds(topic, partition).earliest), stop)


@dataclass(slots=True)
class Bench:
    """A log, a live view of it, and what watches the view."""

    folder: Path
    view: View[Any] = VIEW
    live_fold: View[Any] | None = None
    may_repair: bool = True
    log: CutLog = field(default_factory=CutLog)
    views: MemoryViewStore = field(default_factory=MemoryViewStore)
    now_s: float = 0.0
    watch: ViewWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = self.another_watch()

    def another_watch(self) -> ViewWatch:
        looks = {"views": self.views, "schemas": SCHEMAS, "folder": self.folder}
        return ViewWatch(
            ViewCheck(self.view, 0, log=self.log, **looks),  # type: ignore[arg-type]
            Alarms(log=self.log, appender=self.log, schemas=SCHEMAS, clock=lambda: AT_US),
            event_log=self.log,
            may_repair=self.may_repair,
            once_in_s=600,
            now_s=lambda: self.now_s,
            **looks,  # type: ignore[arg-type]
        )

    async def frames(self, count: int, *, devices: int = 3) -> None:
        """Append frames and let the live view count them."""
        first = self.log.bounds(ASSESSMENTS, 0).end
        for number in range(first, first + count):
            event = accepted(number, offset=number)
            event = replace(event, frame=replace(event.frame, device_id=f"gate-{number % devices}"))
            self.log.append_now(
                Outgoing(
                    topic=TOPIC_OF[type(event)], key=key_of(event).encode(), value=encode(event, SCHEMAS), headers=(), partition=0
                )
            )
        ports: Ports[Any] = Ports(log=self.log, appender=self.log, views=self.views, schemas=SCHEMAS, clock=lambda: AT_US)
        step: ViewStep[Any] = ViewStep(self.live_fold or self.view)
        await KeptStates(step, ports, 0).load((), self.log.bounds(ASSESSMENTS, 0).end)

    async def turns(self, count: int = 12) -> None:
        for _ in range(count):
            await self.watch.turn()

    def alerts(self) -> list[Any]:
        partitions = self.log.partitions(MONITORING)
        records = [r for p in partitions for r in self.log.read(MONITORING, p, 0, self.log.bounds(MONITORING, p).end)]
        return [decode(r.value, MONITORING, SCHEMAS) for r in records]

    def told(self) -> list[str]:
        return [type(a).__name__ for a in self.alerts()]

    def counted(self) -> folds.OpenAlerts:
        """What the alerts view has of it."""
        states: dict[str, Any] = {}
        for partition in self.log.partitions(MONITORING):
            end = self.log.bounds(MONITORING, partition).end
            states |= fold_log(VIEWS["alerts"], self.log, SCHEMAS, partition, end).states
        counted: folds.OpenAlerts = states[f"view/{self.view.name}/0"]
        return counted

    async def equal(self) -> bool:
        return (await check(self.view, self.log, self.views, SCHEMAS, 0)).equal


async def first_difference(check: ViewCheck) -> checking.Difference:
    for _ in range(5):
        if isinstance(found := await check.turn(), checking.Difference):
            return found
    raise AssertionError("nothing was found")


def state_of(bench: Bench, key: str) -> bytes:
    return bench.views._states[bench.view.name, 0][key]


async def change_a_state(bench: Bench) -> None:
    states = bench.views._states[bench.view.name, 0]
    states["gate-1"] = states["gate-1"].replace(b'"accepted_count":', b'"accepted_count":1')


async def delete_a_key(bench: Bench) -> None:
    del bench.views._states[bench.view.name, 0]["gate-1"]


async def add_a_key(bench: Bench) -> None:
    bench.views._states[bench.view.name, 0]["gate-9"] = state_of(bench, "gate-1")


async def swap_two_states(bench: Bench) -> None:
    states = bench.views._states[bench.view.name, 0]
    states["gate-1"], states["gate-2"] = states["gate-2"], states["gate-1"]


async def move_back(bench: Bench) -> None:
    bench.views._positions[bench.view.name, 0] -= 3


async def change_the_digest(bench: Bench) -> None:
    bench.views._digests[bench.view.name, 0] = "ab" * 20


async def change_what_was_seen(bench: Bench) -> None:
    bench.views._states[bench.view.name, 0]["@sources"] = b'{"sources":{}}'


PLANTS = [change_a_state, delete_a_key, add_a_key, swap_two_states, move_back, change_the_digest, change_what_was_seen]


def test_a_view_that_is_right_raises_nothing(tmp_path: Path) -> None:
    """Turn after turn while the view grows: every state compared, no alert, and the digest followed to the end."""

    async def test() -> None:
        bench = Bench(tmp_path)
        await bench.turns(2)
        for _ in range(5):
            await bench.frames(7)
            await bench.turns(2)
        assert bench.watch.has_swept
        assert bench.watch.check.own.standing == await bench.views.standing(VIEW.name, 0)
        assert bench.alerts() == []

    asyncio.run(test())


@pytest.mark.parametrize("plant", PLANTS, ids=lambda p: p.__name__)
def test_what_is_planted_is_found_told_and_repaired(tmp_path: Path, plant: Any) -> None:
    """One alert with the evidence, the view as the log says again, one all-clear; and the next plant is a new alert."""

    async def test() -> None:
        bench = Bench(tmp_path)
        await bench.frames(10)
        await bench.turns()
        await plant(bench)
        assert not await bench.equal() or plant is change_the_digest
        await bench.turns()
        raised, cleared = bench.alerts()
        assert isinstance(raised, AlertRaised)
        assert isinstance(cleared, AlertCleared)
        assert (raised.subject, raised.kind, raised.severity) == ("view/device_frames/0", "view_differs", "warning")
        assert raised.alert_id == cleared.alert_id
        assert raised.evidence["position"] == ("7" if plant is move_back else "10")
        assert raised.evidence["view_digest"] != raised.evidence["log_digest"] or plant in (delete_a_key, add_a_key, move_back)
        assert await bench.equal()
        assert await bench.views.standing(VIEW.name, 0) == bench.watch.check.own.standing
        bench.now_s += 601
        await plant(bench)
        await bench.turns()
        assert bench.told() == ["AlertRaised", "AlertCleared"] * 2
        assert bench.alerts()[2].alert_id != raised.alert_id
        assert bench.counted() == folds.OpenAlerts(open=(), raised_count=2, cleared_count=2)
        assert await bench.equal()

    asyncio.run(test())


def test_the_keys_are_named(tmp_path: Path) -> None:
    """Whoever reads the alert knows where to look."""

    async def test() -> None:
        for plant, key in ((change_a_state, "gate-1"), (delete_a_key, "gate-1"), (add_a_key, "gate-9")):
            bench = Bench(tmp_path)
            await bench.frames(10)
            await plant(bench)
            await bench.turns()
            assert bench.alerts()[0].evidence["keys"] == key
            assert "gate" not in bench.alerts()[0].message or plant is not add_a_key

    asyncio.run(test())


def test_a_position_that_was_moved_ahead_is_found(tmp_path: Path) -> None:
    """The records that were passed over are counted after the repair."""

    async def test() -> None:
        bench = Bench(tmp_path)
        await bench.frames(10)
        await bench.turns()
        behind = await bench.views.load_all(VIEW.name, 0)
        await bench.frames(5)
        bench.views._states[VIEW.name, 0] = dict(behind.states)
        bench.views._digests[VIEW.name, 0] = bench.watch.check.own.digest
        assert (await bench.views.standing(VIEW.name, 0)).position == 15
        await bench.turns()
        assert bench.told() == ["AlertRaised", "AlertCleared"]
        assert await bench.equal()

    asyncio.run(test())


def test_an_emptied_store_is_no_difference(tmp_path: Path) -> None:
    """It is empty and stands at 0, as the log says of 0; what comes back is checked as it comes."""

    async def test() -> None:
        bench = Bench(tmp_path)
        await bench.frames(10)
        await bench.turns()
        bench.views.forget()
        await bench.turns()
        await bench.frames(1)
        await bench.turns()
        assert bench.alerts() == []
        assert await bench.equal()
        assert bench.watch.check.own.position == 11

    asyncio.run(test())


def _counts_twice(state: folds.DeviceFrames, event: Any) -> folds.DeviceFrames:
    once = folds.fold_device_frames(state, event)
    return replace(once, accepted_count=once.accepted_count + 1)


def test_a_fold_that_counts_otherwise_is_found_and_not_repaired_for_ever(tmp_path: Path) -> None:
    """The first difference is repaired; the next one, soon after, is told as critical, and then nothing more is done."""

    async def test() -> None:
        bench = Bench(tmp_path, live_fold=replace(VIEW, fold=_counts_twice))
        await bench.frames(4)
        await bench.turns()
        assert bench.told() == ["AlertRaised", "AlertCleared"]
        assert await bench.equal()
        for _ in range(3):
            await bench.frames(4)
            await bench.turns()
        assert bench.told() == ["AlertRaised", "AlertCleared", "AlertRaised"]
        last = bench.alerts()[-1]
        assert last.severity == "critical"
        assert "not repaired again" in last.message
        assert not await bench.equal()
        # Somebody mends the fold and rebuilds: the alert goes.
        bench.live_fold = None
        end = bench.log.bounds(ASSESSMENTS, 0).end
        folded = fold_log(VIEW, bench.log, SCHEMAS, 0, end)
        assert await bench.views.replace(VIEW.name, 0, as_stored(folded))
        await bench.turns()
        assert bench.told()[-1] == "AlertCleared"
        assert bench.alerts()[-1].alert_id == last.alert_id

    asyncio.run(test())


def test_without_leave_to_repair_it_only_tells(tmp_path: Path) -> None:
    """checks.repair off: one alert, however long it lasts, and the view stays as it is."""

    async def test() -> None:
        bench = Bench(tmp_path, may_repair=False)
        await bench.frames(10)
        await change_a_state(bench)
        planted = state_of(bench, "gate-1")
        await bench.turns(20)
        assert bench.told() == ["AlertRaised"]
        assert state_of(bench, "gate-1") == planted

    asyncio.run(test())


def test_a_worker_that_starts_knows_what_stands(tmp_path: Path) -> None:
    """The alert of one that died before it could repair is neither raised again nor left standing."""

    async def test() -> None:
        bench = Bench(tmp_path, may_repair=False)
        await bench.frames(10)
        await change_a_state(bench)
        await bench.turns()
        bench.may_repair = True
        bench.watch = bench.another_watch()
        await bench.turns()
        raised, cleared = bench.alerts()
        assert raised.alert_id == cleared.alert_id
        assert await bench.equal()

    asyncio.run(test())


def test_readers_count_each_alert_once(tmp_path: Path) -> None:
    """Two workers that find the same at once write one event twice: the alerts view, as every reader, counts it once."""

    async def test() -> None:
        bench = Bench(tmp_path, may_repair=False)
        await bench.frames(10)
        other = bench.another_watch()
        other._knows_what_stands = True
        await change_a_state(bench)
        for watch in (bench.watch, other):
            difference = await first_difference(watch.check)
            await watch._alarms.raise_alert(difference, ASSESSMENTS, "differs", severity="warning")
        first, second = bench.alerts()
        assert first == second
        assert bench.counted().raised_count == 1

    asyncio.run(test())


def test_a_log_whose_start_is_gone_raises_no_false_alarm(tmp_path: Path) -> None:
    """A view counts records that retention removed since: it is taken at its digest's word, checked from there, and repaired."""

    async def test() -> None:
        bench = Bench(tmp_path)
        await bench.frames(10)
        bench.log.earliest = 6
        await bench.turns()
        await bench.frames(4)
        await bench.turns()
        assert bench.alerts() == []
        right = await bench.views.load_all(VIEW.name, 0)
        await change_a_state(bench)
        await bench.turns()
        assert bench.told() == ["AlertRaised", "AlertCleared"]
        assert await bench.views.load_all(VIEW.name, 0) == right

    asyncio.run(test())


def test_a_whole_fold_outlives_the_start_of_its_log(tmp_path: Path) -> None:
    """Retention cuts while the check runs: a repair is made from the fold kept beside, and not from what the log still has."""

    async def test() -> None:
        bench = Bench(tmp_path)
        await bench.frames(10)
        await bench.turns()
        right = await bench.views.load_all(VIEW.name, 0)
        bench.log.earliest = 6
        await change_a_state(bench)
        await bench.turns()
        assert bench.told()[0] == "AlertRaised"
        assert await bench.views.load_all(VIEW.name, 0) == right

    asyncio.run(test())


def test_a_large_view_is_swept_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change anywhere is found within the turns that the number of keys makes."""
    monkeypatch.setattr(checking, "SWEEP_KEYS", 7)

    async def test() -> None:
        bench = Bench(tmp_path, view=OUTCOMES)
        await bench.frames(60)
        await bench.turns(20)
        keys = sorted(k for k in bench.views._states[OUTCOMES.name, 0] if k != "@sources")
        for key in (keys[0], keys[30], keys[-1]):
            bench.now_s += 601
            told = len(bench.alerts())
            bench.views._states[OUTCOMES.name, 0][key] += b" "
            await bench.turns(61 // 7 + 2)
            assert len(bench.alerts()) == told + 2
            assert await bench.equal()

    asyncio.run(test())


class _AwayAtFirst(MemoryViewStore):
    away = True

    async def standing(self, view: str, partition: int) -> Standing:
        if self.away:
            raise ViewStoreUnavailableError("away")
        return await super().standing(view, partition)


def test_a_store_that_is_away_is_no_difference(tmp_path: Path) -> None:
    """The turn ends with the error, and the next one goes on."""

    async def test() -> None:
        bench = Bench(tmp_path, views=_AwayAtFirst())
        await bench.frames(5)
        with pytest.raises(ViewStoreUnavailableError):
            await bench.watch.turn()
        bench.views.away = False  # type: ignore[attr-defined]
        await bench.turns()
        assert bench.alerts() == []
        assert bench.watch.has_swept

    asyncio.run(test())


def test_a_position_beyond_the_log_is_told_and_left(tmp_path: Path) -> None:
    """The store belongs to another log: nothing is swapped in over it, and the alert says so."""

    async def test() -> None:
        bench = Bench(tmp_path)
        await bench.frames(5)
        await bench.turns()
        bench.views._positions[VIEW.name, 0] = 50
        await bench.turns()
        assert bench.told() == ["AlertRaised"]
        assert "the log ends at 5" in bench.alerts()[0].message
        assert (await bench.views.load(VIEW.name, 0, ())) == Stored(position=50, states={})

    asyncio.run(test())
