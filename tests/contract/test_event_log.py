"""The `EventLog` port: the in-memory twin, real Kafka and a bundle keep the same promises.

A bundle takes no records: it is made anew of the twin whenever something was written. What is written while somebody follows
is nothing that it could promise.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.catalogue import FRAMES, RELEASES
from schemas.codec import FixedSchemas
from schemas.errors import LogUnavailableError
from streams import kafka_log
from streams.bundle import open_bundle
from streams.kafka_appender import KafkaAppender
from streams.kafka_log import KafkaEventLog
from streams.memory import MemoryBlobStore, MemoryLog
from streams.names import Namespace
from streams.partitioning import partition_of
from streams.past import Past
from streams.records import Outgoing, system_clock
from streams.topics import Topics
from tests.bundles import bundled

PARTITIONS = 4


class Bundled:
    """What a bundle of all that the twin holds says, made anew for every question."""

    def __init__(self, memory: MemoryLog, folder: Path) -> None:
        self._memory = memory
        self._folder = folder
        self._made = 0

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any) -> Any:
            self._made += 1
            path = self._folder / f"{self._made}.hsb"
            bundled(Past(log=self._memory, schemas=FixedSchemas(), blobs=MemoryBlobStore(), source="memory"), path)
            with open_bundle(path) as past:
                found = getattr(past.log, name)(*arguments)
                return iter(list(found)) if name == "read" else found

        return ask


@pytest.fixture(params=["memory", "kafka"])
def growing(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """An event log, and an appender that writes to what it reads."""
    yield from _made(request)


@pytest.fixture(params=["memory", "kafka", "bundle"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """The same, and a bundle too."""
    yield from _made(request)


def _made(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    if request.param in ("memory", "bundle"):
        memory = MemoryLog(system_clock, partitions=PARTITIONS)
        log = memory if request.param == "memory" else Bundled(memory, request.getfixturevalue("tmp_path"))
        yield log, memory
        return
    stack, namespace = request.getfixturevalue("stack"), request.getfixturevalue("namespace")
    kafka = stack.endpoints.kafka_bootstrap
    Topics(kafka, namespace, chain_partitions=PARTITIONS).ensure()
    log, appender = KafkaEventLog(kafka, namespace), KafkaAppender(kafka, namespace)
    yield log, appender
    appender.close()
    log.close()


def record(value: bytes | None, *, key: bytes = b"gate-1", partition: int | None = 0, topic: str = FRAMES) -> Outgoing:
    return Outgoing(topic=topic, key=key, value=value, headers=(("a", b"1"), ("a", b"2")), partition=partition)


def write(appender: Any, *records: Outgoing) -> list[Any]:
    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*(appender.append(r) for r in records)))

    return asyncio.run(all_of_them())


def test_partitions_and_bounds(both: tuple[Any, Any]) -> None:
    """A chained topic has the partitions that were asked for, another has one, and an empty one holds nothing."""
    log, appender = both
    assert log.partitions(FRAMES) == tuple(range(PARTITIONS))
    assert log.partitions(RELEASES) == (0,)
    assert (log.bounds(FRAMES, 2).earliest, log.bounds(FRAMES, 2).end) == (0, 0)
    write(appender, record(b"x", partition=2))
    assert (log.bounds(FRAMES, 2).earliest, log.bounds(FRAMES, 2).end) == (0, 1)


def test_a_record_comes_back_as_it_was_written(both: tuple[Any, Any]) -> None:
    """Key, value, headers in their order, none of them read; a value of nothing stays nothing."""
    log, appender = both
    write(appender, record(b"\x00\xff", key=b"gate-1"), record(None))
    first, second = log.read(FRAMES, 0, 0, 2)
    assert (first.topic, first.partition, first.offset) == (FRAMES, 0, 0)
    assert (first.key, first.value, first.headers) == (b"gate-1", b"\x00\xff", (("a", b"1"), ("a", b"2")))
    assert (second.offset, second.value) == (1, None)


def test_read_gives_the_offsets_from_start_up_to_stop(both: tuple[Any, Any]) -> None:
    """Ascending, without the stop, ending at the end of the log, and empty when there is nothing between."""
    log, appender = both
    write(appender, *(record(str(n).encode()) for n in range(12)))

    def read(start: int, stop: int) -> list[int]:
        return [r.offset for r in log.read(FRAMES, 0, start, stop)]

    assert read(0, 12) == list(range(12))
    assert read(3, 7) == [3, 4, 5, 6]
    assert read(10, 99) == [10, 11]
    assert read(5, 5) == []
    assert read(7, 3) == []
    assert read(12, 13) == []


def test_reads_after_one_another_do_not_mix(both: tuple[Any, Any]) -> None:
    """Many short reads, some left before their end, some inside another: each gives just its own records."""
    log, appender = both
    write(appender, *(record(f"{p}-{n}".encode(), partition=p) for n in range(700) for p in (0, 1)))
    rng = random.Random(4)

    def read(partition: int, start: int, stop: int) -> Iterator[bytes | None]:
        return (r.value for r in log.read(FRAMES, partition, start, stop))

    def expected(partition: int, start: int, stop: int) -> list[bytes]:
        return [f"{partition}-{n}".encode() for n in range(start, min(stop, 700))]

    for _ in range(60):
        partition, start = rng.randrange(2), rng.randrange(700)
        stop = start + rng.choice((1, 3, 600))
        left_early = read(partition, start, stop)
        assert next(left_early) == expected(partition, start, stop)[0]
        other = (1 - partition, rng.randrange(700), 705)
        assert list(read(*other)) == expected(*other)
        if rng.random() < 0.5:
            assert list(left_early) == expected(partition, start, stop)[1:]
        del left_early
        assert list(read(partition, start, stop)) == expected(partition, start, stop)


def test_reads_of_several_topics_do_not_wait_for_one_another(both: tuple[Any, Any]) -> None:
    """A look back reads a few records here and a few there: forty such reads take seconds, and not one second each."""
    log, appender = both
    write(appender, record(b"frame", partition=1), record(b"release", partition=0, topic=RELEASES))
    began = time.monotonic()
    for _ in range(20):
        assert [r.value for r in log.read(FRAMES, 1, 0, 1)] == [b"frame"]
        assert [r.value for r in log.read(RELEASES, 0, 0, 1)] == [b"release"]
    assert time.monotonic() - began < 15


def test_offset_at_is_exact_to_the_millisecond(both: tuple[Any, Any]) -> None:
    """The first record appended at or after a time: of equal times the first, before all the start, after all the end."""
    log, appender = both
    for n in range(8):
        write(appender, record(str(n).encode()))
        before = system_clock() // 1000
        while system_clock() // 1000 == before:  # until the clock's next millisecond
            time.sleep(0)
    write(appender, *(record(b"burst") for _ in range(20)))
    times = [r.appended_at_ms for r in log.read(FRAMES, 0, 0, 28)]
    assert times == sorted(times)
    for at_ms in {t + d for t in times for d in (-1, 0, 1)}:
        expected = next((n for n, t in enumerate(times) if t >= at_ms), 28)
        assert log.offset_at(FRAMES, 0, at_ms) == expected, f"at {at_ms - times[0]} ms"
    assert log.offset_at(FRAMES, 0, 0) == 0
    assert log.offset_at(FRAMES, 0, times[-1] + 3_600_000) == 28
    assert log.offset_at(FRAMES, 1, 0) == 0


def test_a_record_that_comes_while_an_offset_is_asked_for_is_not_before_it(
    stack: Any, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever question to the broker it comes behind, a record appended after a moment is not in that moment's prefix."""
    kafka = stack.endpoints.kafka_bootstrap
    Topics(kafka, namespace, chain_partitions=1).ensure()
    log, appender = KafkaEventLog(kafka, namespace), KafkaAppender(kafka, namespace)
    write(appender, record(b"known"))
    (known,) = log.read(FRAMES, 0, 0, 1)
    while system_clock() // 1000 <= known.appended_at_ms + 2:
        time.sleep(0)
    asked = kafka_log._once_led

    def asked_and_then_one_comes(ask: Any) -> Any:
        answer = asked(ask)
        write(appender, record(b"later"))
        return answer

    monkeypatch.setattr(kafka_log, "_once_led", asked_and_then_one_comes)
    assert log.offset_at(FRAMES, 0, known.appended_at_ms + 1) == 1
    monkeypatch.undo()
    assert log.bounds(FRAMES, 0).end == 3
    appender.close()
    log.close()


def test_follow_gives_what_is_there_and_what_comes(growing: tuple[Any, Any]) -> None:
    """From the given offsets of the given partitions only, then None while nothing is new, then what was written since."""
    log, appender = growing
    write(appender, record(b"old"), record(b"a"), record(b"b", partition=1), record(b"other", partition=2))
    stopped: list[bool] = []
    following = log.follow(FRAMES, {0: 1, 1: 0}, lambda: bool(stopped))

    def take(count: int) -> list[bytes | None]:
        deadline, found = time.monotonic() + 20, []
        while len(found) < count and time.monotonic() < deadline:
            one = next(following)
            found += [one.value] if one is not None else []
        return found

    assert sorted(take(2)) == [b"a", b"b"]  # type: ignore[type-var]
    while next(following) is not None:
        pass
    write(appender, record(b"new", partition=1))
    assert take(1) == [b"new"]
    stopped.append(True)
    assert [r for r in following if r is not None] == []


def test_following_a_bundle_gives_what_is_there(tmp_path: Path) -> None:
    """From the given offsets on, then None for ever, until it is stopped."""
    memory = MemoryLog(system_clock, partitions=PARTITIONS)
    write(memory, record(b"old"), record(b"a"), record(b"b", partition=1), record(b"other", partition=2))
    path = tmp_path / "followed.hsb"
    bundled(Past(log=memory, schemas=FixedSchemas(), blobs=MemoryBlobStore(), source="memory"), path)
    with open_bundle(path) as past:
        stopped: list[bool] = []
        following = past.log.follow(FRAMES, {0: 1, 1: 0}, lambda: bool(stopped))
        found = [next(following) for _ in range(5)]
        assert [None if r is None else r.value for r in found] == [b"a", b"b", None, None, None]
        stopped.append(True)
        assert list(following) == []


def test_a_key_lies_where_partition_of_says(both: tuple[Any, Any]) -> None:
    """Many keys of every length: the broker's choice, the twin's and ours are one."""
    log, appender = both
    keys = [b"", *(f"gate-{n}".encode() for n in range(60))] + [b"\xff" * n for n in range(1, 18)] + ["gâte-日本".encode()]
    for position, key in zip(write(appender, *(record(b"", key=k, partition=None) for k in keys)), keys, strict=True):
        assert position.partition == partition_of(key, PARTITIONS), key
    for partition in range(PARTITIONS):
        for found in log.read(FRAMES, partition, 0, 999):
            assert partition_of(found.key, PARTITIONS) == partition


def test_a_broker_that_is_away_is_named_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question ends in LogUnavailableError, with what to do, and never in the client's own error."""
    monkeypatch.setattr(kafka_log, "_METADATA_S", 0.3)
    log = KafkaEventLog("127.0.0.1:9", client={"log_level": "0"})
    for ask in (lambda: log.bounds(FRAMES, 0), lambda: log.partitions(FRAMES), lambda: log.offset_at(FRAMES, 0, 0)):
        with pytest.raises(LogUnavailableError) as raised:
            ask()
        assert raised.value.do
    log.close()


def test_a_topic_that_is_missing_is_named(stack: Any, namespace: Namespace) -> None:
    """Asking for the partitions of a topic that nobody made says which one, and makes none."""
    log = KafkaEventLog(stack.endpoints.kafka_bootstrap, namespace)
    with pytest.raises(LogUnavailableError, match=namespace.topic(FRAMES)):
        log.partitions(FRAMES)
    log.close()
