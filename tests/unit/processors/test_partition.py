"""The runner by itself, on in-memory twins and a clock that jumps: what it was given twice, out of turn, or cannot use."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from processors.dead_letters import PREFIX
from processors.kept import KeptStates
from processors.partition import PartitionRunner
from processors.repeats import SOURCES_KEY
from processors.step import NOTHING, Cause, Ports, Prepared
from processors.views.catalogue import View
from processors.views.step import ViewStep
from processors.views.upkeep import check
from schemas.catalogue import ASSESSMENTS, DEAD_LETTERS, FRAMES
from schemas.codec import FixedSchemas, decode, encode
from schemas.errors import ConsistencyError, ContractError
from schemas.events import FrameAccepted
from streams.memory import MemoryLog, MemoryViewStore
from streams.partitioning import partition_of
from streams.ports import Stored
from streams.records import HEADERS_ROOM_BYTES, LONGEST_RECORD_BYTES, Outgoing, Record
from tests.given import AT_US, accepted, captured
from tests.simulation import virtual_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A state that shows whatever is counted twice."""

    total: int = 0


VIEW = View(
    name="counts",
    topic=FRAMES,
    initial=Count(),
    key=lambda event: str(event.frame.device_id),
    fold=lambda state, event: Count(total=state.total + 1),
)


def answer_to(event: Any, cause: Cause) -> FrameAccepted:
    """Something that follows from an event."""
    return replace(accepted(event.frame.sequence), source=cause.position)


class Bench:
    """One runner of one view over one partition, and hands on everything around it."""

    def __init__(
        self, step: Any = None, *, batch: int = 8, committed: Callable[[], int] | None = None, partitions: int = 1
    ) -> None:
        self.log = MemoryLog(lambda: AT_US, partitions=partitions)
        self.views = MemoryViewStore()
        self.schemas = FixedSchemas()
        self.acknowledged: list[int] = []
        self.failures: list[BaseException] = []
        ports: Ports[Any] = Ports(log=self.log, appender=self.log, views=self.views, schemas=self.schemas, clock=lambda: AT_US)
        self.runner: PartitionRunner[Any] = PartitionRunner(
            step or ViewStep(VIEW), ports, 0, window=32, batch=batch, failed=self.failures.append, committed=committed
        )

    def captured(self, count: int, device: str = "gate-1") -> list[Record]:
        """Events without a source on the log: nothing but the position tells whether one was counted."""
        start = self.log.bounds(FRAMES, 0).end
        for number in range(count):
            value = encode(captured(number, device=device), self.schemas)
            self.log.append_now(Outgoing(topic=FRAMES, key=device.encode(), value=value, headers=(), partition=0))
        return list(self.log.read(FRAMES, 0, start, start + count))

    async def give(self, *records: Record) -> None:
        await self.runner.submit(records, lambda record: self.acknowledged.append(record.offset))

    async def counted(self) -> int:
        """How many the view counted, after checking that it is the fold of its log."""
        await asyncio.sleep(3)
        assert (await check(VIEW, self.log, self.views, self.schemas, 0)).equal
        stored = await self.views.load_all(VIEW.name, 0)
        return int(json.loads(stored.states["gate-1"])["total"])


def on_bench(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()

    virtual_time.run(whole)


def test_records_given_again_into_one_batch_are_counted_once() -> None:
    """A partition that came back is read from what was on record, while the first ones still wait in the same runner."""

    async def test() -> None:
        bench = Bench()
        records = bench.captured(3)
        await bench.give(*records, *records[1:], *records)
        assert await bench.counted() == 3
        assert sorted(bench.acknowledged) == [0, 0, 1, 1, 1, 2, 2, 2]
        await bench.runner.stop()

    on_bench(test)


def test_a_check_says_how_far_a_view_is_behind_its_log() -> None:
    """A view that equals its log up to where it stands may still be old, and the answer tells."""

    async def test() -> None:
        bench = Bench()
        await bench.give(*bench.captured(5)[:2])
        assert await bench.counted() == 2
        found = await check(VIEW, bench.log, bench.views, bench.schemas, 0)
        assert (found.equal, found.position, found.behind_records) == (True, 2, 3)
        await bench.runner.stop()

    on_bench(test)


def test_a_hole_in_what_is_given_is_filled_from_the_log() -> None:
    """What another owner did meanwhile, and the view store forgot since, is caught up before the next record counts."""

    async def test() -> None:
        bench = Bench()
        records = bench.captured(6)
        await bench.give(records[0], records[4], records[5])
        assert await bench.counted() == 6
        await bench.runner.stop()

    on_bench(test)


class _Answering(ViewStep[Any]):
    """A view that emits something for each record, so that one folded without being decided shows."""

    def __init__(self) -> None:
        super().__init__(VIEW)

    def decide(self, state: Any, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        return (answer_to(event, cause),)


def answered(bench: Bench) -> list[int]:
    """Offsets of the records for which something was emitted, in the order of emission."""
    records = bench.log.read(ASSESSMENTS, 0, 0, 99)
    return [decode(r.value, ASSESSMENTS, bench.schemas).source.offset for r in records]


def test_what_follows_lies_by_its_key_wherever_its_cause_lay() -> None:
    """A producer that chooses partitions by another hash hides nothing from one who looks where the key says."""

    async def test() -> None:
        bench = Bench(_Answering(), partitions=4)
        mine = partition_of(b"gate-1", 4)
        assert mine != 0
        await bench.give(*bench.captured(3))
        assert await bench.counted() == 3
        found = [decode(r.value, ASSESSMENTS, bench.schemas).source for r in bench.log.read(ASSESSMENTS, mine, 0, 99)]
        assert [(source.partition, source.offset) for source in found] == [(0, 0), (0, 1), (0, 2)]
        assert answered(bench) == []
        await bench.runner.stop()

    on_bench(test)


def test_what_the_consumer_left_out_is_read_from_the_log_and_decided() -> None:
    """Nobody acknowledged it, so somebody is still to say what follows from it: catching up over it would lose that."""

    async def test() -> None:
        bench = Bench(_Answering(), committed=lambda: 1)
        records = bench.captured(6)
        await bench.give(records[1])
        await asyncio.sleep(1)
        await bench.give(records[4], records[5])
        assert await bench.counted() == 6
        assert answered(bench) == [1, 2, 3, 4, 5]
        assert bench.acknowledged == [1, 4, 5]
        await bench.runner.stop()

    on_bench(test)


def test_what_was_left_out_last_is_read_when_nothing_comes_for_a_while() -> None:
    """Also where nothing was ever handed over; and what may still be under way is given its time."""

    async def test() -> None:
        bench = Bench(_Answering(), committed=lambda: 0)
        bench.captured(3)
        await bench.runner.look(3)
        await asyncio.sleep(1)
        assert answered(bench) == []
        await bench.runner.look(3)
        assert await bench.counted() == 3
        assert answered(bench) == [0, 1, 2]
        await bench.runner.look(3)
        await bench.runner.look(3)
        assert await bench.counted() == 3
        await bench.runner.stop()

    on_bench(test)


def test_what_another_owner_did_is_not_read_again() -> None:
    """A partition that went away and came back goes on where the group is."""

    async def test() -> None:
        committed = [0]
        bench = Bench(_Answering(), committed=lambda: committed[0])
        records = bench.captured(6)
        await bench.give(records[0])
        committed[0] = 5
        await bench.give(records[5])
        assert await bench.counted() == 6
        assert answered(bench) == [0, 5]
        await bench.runner.stop()

    on_bench(test)


def test_a_lost_view_store_is_caught_up_to_what_was_acknowledged() -> None:
    """A new owner that begins where the group committed finds an empty store, and fills it without stopping."""

    async def test() -> None:
        bench = Bench(committed=lambda: 4)
        records = bench.captured(6)
        await bench.give(records[4], records[5])
        assert await bench.counted() == 6
        assert bench.failures == []
        await bench.runner.stop()

    on_bench(test)


def test_a_flushed_view_comes_back_without_a_new_record() -> None:
    """While nothing comes, the runner looks now and then, and builds what is gone."""

    async def test() -> None:
        bench = Bench()
        await bench.give(*bench.captured(4))
        assert await bench.counted() == 4
        bench.views.forget()
        await asyncio.sleep(10)
        assert await bench.counted() == 4
        await bench.runner.stop()

    on_bench(test)


@pytest.mark.parametrize("in_part", [0, 2])
def test_a_flushed_view_comes_back_to_an_owner_who_never_got_a_record(in_part: int) -> None:
    """The store forgot, perhaps somebody built it in part and went, the partition has a new owner, and nothing comes."""

    async def test() -> None:
        bench = Bench(committed=lambda: 3)
        bench.captured(3)
        if in_part:
            stored = Stored(position=in_part, states={"gate-1": b'{"total":%d}' % in_part})
            assert await bench.views.replace(VIEW.name, 0, stored)
        await asyncio.sleep(20)
        assert (await bench.views.standing(VIEW.name, 0)).position == 3
        assert await bench.counted() == 3
        assert bench.acknowledged == []
        await bench.runner.stop()

    on_bench(test)


def test_a_view_store_of_another_log_stops_the_partition() -> None:
    """A position beyond the end of the log is not believed: passing records over would lose them."""

    async def test() -> None:
        bench = Bench()
        await bench.views.save(VIEW.name, 0, expected=0, position=50, changes={})
        await bench.give(*bench.captured(1))
        await asyncio.sleep(3)
        assert [type(e) for e in bench.failures] == [ConsistencyError]
        assert bench.acknowledged == []

    on_bench(test)


def test_a_state_of_another_version_stops_the_partition_and_says_what_to_do() -> None:
    """What cannot be read is neither guessed nor overwritten."""

    async def test() -> None:
        bench = Bench()
        await bench.views.save(VIEW.name, 0, expected=0, position=0, changes={"gate-1": b'{"other":1}'})
        await bench.give(*bench.captured(1))
        await asyncio.sleep(3)
        (failure,) = bench.failures
        assert isinstance(failure, ConsistencyError)
        assert failure.do

    on_bench(test)


def test_a_view_that_was_rebuilt_in_its_place_is_gone_on_from() -> None:
    """What a runner still holds from its last save is not written over what a rebuild put there, at the same position."""

    async def test() -> None:
        bench = Bench()
        await bench.give(*bench.captured(3))
        assert await bench.counted() == 3
        assert await bench.views.replace(VIEW.name, 0, Stored(position=3, states={"gate-1": b'{"total":100}'}))
        await bench.give(*bench.captured(1))
        await asyncio.sleep(3)
        assert (await bench.views.load_all(VIEW.name, 0)).states["gate-1"] == b'{"total":101}'
        await bench.runner.stop()

    on_bench(test)


def test_states_that_are_no_longer_held_are_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few states are held of however many keys, each counts on from what is stored."""
    monkeypatch.setattr("processors.kept._STATES_HELD", 2)

    async def test() -> None:
        bench = Bench(batch=3)
        devices = [f"gate-{n * n % 7}" for n in range(1, 40)]
        for device in devices:
            await bench.give(*bench.captured(1, device=device))
        await bench.counted()
        stored = (await bench.views.load_all(VIEW.name, 0)).states
        assert {d: json.loads(stored[d])["total"] for d in set(devices)} == Counter(devices)
        await bench.runner.stop()

    on_bench(test)


def test_a_device_with_the_reserved_name_goes_to_the_dead_letters() -> None:
    """It cannot overwrite what is kept beside the states, live or caught up, and the partition goes on."""

    async def test() -> None:
        bench = Bench()
        bad, good = bench.captured(1, device=SOURCES_KEY), bench.captured(2)
        await bench.give(*bad, *good)
        assert await bench.counted() == 2
        (kept,) = bench.log.read(DEAD_LETTERS, 0, 0, 9)
        assert kept.value == bad[0].value
        await bench.runner.stop()

    on_bench(test)


class _Refusing(ViewStep[Any]):
    """A step that cannot stand its input."""

    def __init__(self, where: str, error: Exception) -> None:
        super().__init__(VIEW)
        self._where = where
        self._error = error

    async def prepare(self, event: Any, cause: Cause) -> Prepared:
        if self._where == "prepare":
            raise self._error
        return NOTHING

    def decide(self, state: Any, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        if self._where == "decide":
            raise self._error
        return ()


@pytest.mark.parametrize("where", ["prepare", "decide"])
@pytest.mark.parametrize("error", [ContractError("no"), ValueError("from a library")], ids=repr)
def test_a_record_that_a_step_cannot_stand_is_kept_aside_and_still_folded(where: str, error: Exception) -> None:
    """Bad input never stops a partition; and since a replay folds the event too, so does the live state."""

    async def test() -> None:
        bench = Bench(_Refusing(where, error))
        records = bench.captured(3)
        await bench.give(*records)
        assert await bench.counted() == 3
        assert [r.value for r in bench.log.read(DEAD_LETTERS, 0, 0, 9)] == [r.value for r in records]
        assert bench.acknowledged == [0, 1, 2]
        await bench.runner.stop()

    on_bench(test)


class _Verbose(ViewStep[Any]):
    """A step whose answer no topic takes."""

    def __init__(self) -> None:
        super().__init__(VIEW)

    def decide(self, state: Any, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        return (replace(answer_to(event, cause), warnings=("x" * LONGEST_RECORD_BYTES,)),)


def test_an_event_that_its_topic_does_not_take_is_a_dead_letter_of_its_cause() -> None:
    """The broker would refuse it again and again, and the partition would wait for ever."""

    async def test() -> None:
        bench = Bench(_Verbose())
        records = bench.captured(2)
        await bench.give(*records)
        assert await bench.counted() == 2
        assert [r.value for r in bench.log.read(DEAD_LETTERS, 0, 0, 9)] == [r.value for r in records]
        await bench.runner.stop()

    on_bench(test)


def test_of_a_record_longer_than_any_topic_takes_length_and_digest_are_kept() -> None:
    """Brokers bound records as compressed, so one can be longer than what a dead letter may be."""

    async def test() -> None:
        bench = Bench()
        (record,) = bench.captured(1)
        long = replace(record, value=b"x" * (LONGEST_RECORD_BYTES + 1), headers=(("h", b"y" * HEADERS_ROOM_BYTES),))
        await bench.give(long)
        await asyncio.sleep(3)
        (kept,) = bench.log.read(DEAD_LETTERS, 0, 0, 9)
        told = {name.removeprefix(PREFIX): value.decode() for name, value in kept.headers}
        assert kept.value is None
        assert told["error_class"] == "DecodeError"
        assert told["left_out_value_bytes"] == str(len(long.value or b""))
        assert told["left_out_value_sha256"] == hashlib.sha256(long.value or b"").hexdigest()
        assert int(told["left_out_headers_bytes"]) > HEADERS_ROOM_BYTES
        assert bench.acknowledged == [0]
        await bench.runner.stop()

    on_bench(test)


class CaughtUpMeanwhile(MemoryViewStore):
    """While somebody catches it up, another one does, and then everything is lost again."""

    def __init__(self, by_another: Stored) -> None:
        super().__init__()
        self._by_another: Stored | None = by_another

    async def load(self, view: str, partition: int, keys: tuple[str, ...]) -> Stored:
        if self._by_another is None or not keys or set(keys) <= {SOURCES_KEY}:
            return await super().load(view, partition, keys)
        await self.replace(view, partition, self._by_another)
        self._by_another = None
        found = await super().load(view, partition, keys)
        self.forget()
        return found


def test_states_that_another_caught_up_are_not_taken_for_those_to_begin_with() -> None:
    """What is folded again begins with what is stored at the position that it is stored on, however often that changes."""

    async def test() -> None:
        bench = Bench()
        bench.captured(3)
        views = CaughtUpMeanwhile(await _counted_by_another(bench, 3))
        ports: Ports[Any] = Ports(log=bench.log, appender=bench.log, views=views, schemas=bench.schemas, clock=lambda: AT_US)
        await KeptStates(ViewStep(VIEW), ports, 0).load((), 3)
        assert (await check(VIEW, bench.log, views, bench.schemas, 0)).equal
        await bench.runner.stop()

    on_bench(test)


async def _counted_by_another(bench: Bench, position: int) -> Stored:
    other = MemoryViewStore()
    ports: Ports[Any] = Ports(log=bench.log, appender=bench.log, views=other, schemas=bench.schemas, clock=lambda: AT_US)
    await KeptStates(ViewStep(VIEW), ports, 0).load((), position)
    return await other.load_all(VIEW.name, 0)
