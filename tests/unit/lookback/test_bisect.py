"""Bisecting a long log: the planted change is found, named, and costs few reads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from zlib import crc32

import pytest

from processors.emit import outgoing
from processors.lookback.bisect import bisect
from processors.lookback.changed import Bisection
from processors.step import Cause
from schemas import ids
from schemas.catalogue import INFERENCES, MONITORING, RELEASES, RESULTS
from schemas.codec import FixedSchemas
from schemas.errors import ConfigurationError, ContractError
from schemas.events import DriftDetected, InferenceCompleted, ReleasePromoted, ReleaseRegistered, ResultDerived, ThresholdChanged
from schemas.types import Observation, Reading, SourcePosition
from streams.memory import MemoryBlobStore
from streams.past import Past
from streams.records import Bounds, Record
from tests.gate import PIPELINE, START_US
from tests.given import frame

SCHEMAS = FixedSchemas()
STEP_MS = 10


@dataclass(slots=True)
class GeneratedLog:
    """A log of any length that makes each record when it is read, and counts what was read.

    `low` says whether the result at a place was read with low confidence; the rest says what else changes there.
    """

    count: int
    low: Callable[[int], bool]
    releases: list[Any] = field(default_factory=list)
    monitoring: list[tuple[int, Any]] = field(default_factory=list)
    offset_of_releases: Callable[[int], int] = lambda n: 1
    threshold: Callable[[int], float] = lambda n: 0.5
    session: Callable[[int], str] = lambda n: "s1"
    device: Callable[[int], str] = lambda n: "gate-1"
    passage: Callable[[int], str | None] = lambda n: None
    threads: Callable[[int], str] = lambda n: "1"
    partition_count: int = 1
    read_count: int = 0

    def partitions(self, topic: str) -> tuple[int, ...]:
        return (0,) if topic == RELEASES else tuple(range(self.partition_count))

    def bounds(self, topic: str, partition: int) -> Bounds:
        if topic == RELEASES:
            return Bounds(earliest=0, end=len(self.releases))
        if topic == MONITORING:
            return Bounds(earliest=0, end=len(self.monitoring) if partition == 0 else 0)
        return Bounds(earliest=0, end=self.count // self.partition_count if topic in (RESULTS, INFERENCES) else 0)

    def at_ms(self, n: int) -> int:
        return START_US // 1000 + n * STEP_MS

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        end = self.bounds(topic, partition).end
        if topic == MONITORING:
            return sum(self.at_ms(n) < at_ms for n, _ in self.monitoring) if end else 0
        n = -(-(at_ms - START_US // 1000) // STEP_MS)
        return min(end, max(0, -(-(n - partition) // self.partition_count)))

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        for offset in range(start, min(stop, self.bounds(topic, partition).end)):
            self.read_count += 1
            yield self._record(topic, partition, offset)

    def follow(self, *arguments: Any) -> Iterator[None]:
        raise NotImplementedError

    def _record(self, topic: str, partition: int, offset: int) -> Record:
        n = self.number_of(partition, offset)
        if topic == RELEASES:
            event, n = self.releases[offset], 0
        elif topic == MONITORING:
            n, event = self.monitoring[offset]
        else:
            event = self._inference(partition, offset, n) if topic == INFERENCES else self._result(partition, offset, n)
        position = SourcePosition(topic=topic, partition=partition, offset=offset, index=0)
        cause = Cause(position=position, event_id="c", correlation_id="c", traceparent="", now_us=START_US)
        out = outgoing(event, cause=cause, source="test", time_us=START_US, schemas=SCHEMAS)
        return Record(
            topic=topic,
            partition=partition,
            offset=offset,
            appended_at_ms=self.at_ms(n),
            key=out.key,
            value=out.value,
            headers=out.headers,
        )

    def number_of(self, partition: int, offset: int) -> int:
        return offset * self.partition_count + partition

    def _result(self, partition: int, offset: int, n: int) -> ResultDerived:
        source = SourcePosition(topic=INFERENCES, partition=partition, offset=offset, index=0)
        reading = Reading(
            kind="text", label="ABC", confidence=0.3 if self.low(n) else 0.9, valid=None, observation_index=0, polygon_px=()
        )
        return ResultDerived(
            event_id=ids.event_id(source, "ResultDerived"),
            source=source,
            frame=frame(n, device=self.device(n), session=self.session(n), passage=self.passage(n)),
            inference_id=ids.named_id(str(n)),
            pipeline=PIPELINE,
            release="r1",
            outcome="read",
            readings=(reading,),
            rules="container_codes@1",
            detail="",
            derived_at_us=START_US,
        )

    def _inference(self, partition: int, offset: int, n: int) -> InferenceCompleted:
        return replace(
            _blank(),
            source=SourcePosition(topic="vision.assessments", partition=partition, offset=offset, index=0),
            releases_offset=self.offset_of_releases(n),
            parameters={"text_confidence": self.threshold(n)},
            runtime={"threads": self.threads(n)},
        )


@cache
def _blank() -> InferenceCompleted:
    seen = Observation(index=0, kind="text", label="ABC", confidence=0.9, detection_score=0.8, polygon_px=(), measures={})
    return InferenceCompleted(
        event_id=ids.named_id("blank"),
        source=SourcePosition(topic="vision.assessments", partition=0, offset=0, index=0),
        frame=frame(0),
        pipeline=PIPELINE,
        release="r1",
        releases_offset=1,
        endpoint="one:8001",
        attempts=1,
        started_at_us=START_US,
        duration_us=5000,
        width_px=32,
        height_px=24,
        parameters={},
        runtime={},
        steps=(),
        observations=(seen,),
        candidates=(),
    )


def position(offset: int) -> SourcePosition:
    return SourcePosition(topic="vision.commands", partition=0, offset=offset, index=0)


def told(offset: int) -> dict[str, Any]:
    who = {"issued_by": "mr", "reason": "tuning"}
    return {"event_id": ids.named_id(str(offset)), "source": position(offset), "pipeline": PIPELINE, **who}


def registered() -> ReleaseRegistered:
    return ReleaseRegistered(**told(0), release="r1", steps=(), parameters={"text_confidence": 0.5}, registered_at_us=START_US)


def threshold_changed() -> ThresholdChanged:
    return ThresholdChanged(**told(1), name="text_confidence", value=0.2, previous_value=0.5, changed_at_us=START_US)


def promoted() -> ReleasePromoted:
    return ReleasePromoted(**told(1), release="r1", previous_release="r0", promoted_at_us=START_US)


def drift(subject: str = "gate-1") -> DriftDetected:
    return DriftDetected(
        event_id=ids.named_id(f"drift of {subject}"),
        source=position(0),
        subject=subject,
        measure="brightness_mean",
        test="psi",
        statistic=0.4,
        threshold=0.2,
        detected_at_us=START_US,
    )


def chance(n: int, share: float, salt: str = "") -> bool:
    """The same answer for the same place, true for about this share of places."""
    return crc32(f"{salt}{n}".encode()) / 2**32 < share


def stepped(at: int, before: float, after: float, salt: str = "") -> Callable[[int], bool]:
    return lambda n: chance(n, before if n < at else after, salt)


def asked(log: GeneratedLog, where: str = "confidence < 0.5", device: str | None = None, end: int | None = None) -> Bisection:
    past = Past(log=log, schemas=SCHEMAS, blobs=MemoryBlobStore(), source="a generated log")
    end_ms = log.at_ms(log.count if end is None else end)
    return bisect(past, where=where, from_us=START_US, to_us=end_ms * 1000, pipeline=PIPELINE, device=device)


def number(found: Bisection, log: GeneratedLog) -> int:
    assert found.first_after is not None
    return found.first_after.offset * log.partition_count + found.first_after.partition


CHANGE = 61_803


def changed_at(at: int) -> Callable[[int], int]:
    return lambda n: 1 if n < at else 2


def with_threshold(at: int = CHANGE, count: int = 100_000, **more: Any) -> GeneratedLog:
    return GeneratedLog(
        count=count,
        low=stepped(at, 0.05, 0.3),
        releases=[registered(), threshold_changed()],
        offset_of_releases=changed_at(at),
        threshold=lambda n: 0.5 if n < at else 0.2,
        **more,
    )


def test_a_change_among_100_000_results_is_found_and_named() -> None:
    """A threshold that was lowered: the event by whom, the shares on both sides, and where it began, in some thousand reads."""
    log = with_threshold()
    found = asked(log)
    assert found.found
    assert (found.suspects[0].kind, found.suspects[0].says) == (
        "ThresholdChanged",
        "text_confidence was changed from 0.5 to 0.2 by mr: tuning",
    )
    assert abs(number(found, log) - CHANGE) < 40
    assert found.after is not None
    assert found.before.low < 0.05 < found.before.high
    assert found.after.low < 0.3 < found.after.high
    assert found.first_differing is not None
    assert log.low(found.first_differing.sequence)
    assert found.first_differing.sequence >= number(found, log)
    assert found.records_count == 100_000
    assert log.read_count <= 6_000
    assert abs(log.read_count - found.records_read) < 20


def test_reads_grow_by_the_logarithm() -> None:
    """A log a hundred times as long costs less than twice the reads."""
    short, long = with_threshold(at=6_180, count=10_000), with_threshold(at=618_033, count=1_000_000)
    assert asked(short).suspects[0].kind == asked(long).suspects[0].kind == "ThresholdChanged"
    assert long.read_count < 2 * short.read_count


@pytest.mark.parametrize("at", [700, 5_000, 33_333, 50_001, 99_000])
@pytest.mark.parametrize(("before", "after"), [(0.02, 0.2), (0.9, 0.5), (0.0, 1.0)])
def test_a_change_is_found_wherever_it_lies(at: int, before: float, after: float) -> None:
    """Early, late and in the middle; more often and less often."""
    log = GeneratedLog(count=100_000, low=stepped(at, before, after, salt=f"{at}"))
    found = asked(log)
    assert found.found
    assert abs(number(found, log) - at) < 80
    assert found.after is not None
    assert (found.after.share > found.before.share) == (after > before)
    assert found.first_differing is not None
    assert log.low(found.first_differing.sequence) == (after > before)


def test_each_kind_of_change_is_named() -> None:
    """A promotion, a restart of the device, another runtime, drift; and where nothing is recorded, that is said."""
    low = stepped(CHANGE, 0.05, 0.4)
    plants = {
        "ReleasePromoted": GeneratedLog(
            count=100_000, low=low, releases=[registered(), promoted()], offset_of_releases=changed_at(CHANGE)
        ),
        "DeviceRestarted": GeneratedLog(count=100_000, low=low, session=lambda n: "s1" if n < CHANGE else "s2"),
        "RuntimeChanged": GeneratedLog(count=100_000, low=low, threads=lambda n: "1" if n < CHANGE else "4"),
        "DriftDetected": GeneratedLog(count=100_000, low=low, monitoring=[(CHANGE, drift())]),
    }
    for kind, log in plants.items():
        found = asked(log)
        assert [s.kind for s in found.suspects][:1] == [kind]
        assert found.suspects[0].evidence
    silent = asked(GeneratedLog(count=100_000, low=low))
    assert silent.found
    assert silent.suspects == ()
    assert "nothing that is recorded" in silent.verdict


def test_drift_that_is_reported_late_is_named_as_late() -> None:
    """A detector sees a change after a while: up to a quarter of an hour later, and not of another device, or long after."""
    minute = 60_000 // STEP_MS
    at = {"gate-2": CHANGE + 10, "gate-1": CHANGE + 3 * minute}
    log = GeneratedLog(
        count=100_000, low=stepped(CHANGE, 0.05, 0.4), monitoring=[(n, drift(subject)) for subject, n in at.items()]
    )
    (late,) = asked(log).suspects
    assert late.kind == "DriftDetected"
    assert late.says.startswith("brightness_mean of gate-1 drifted (psi 0.4), reported 18")
    assert abs(late.late_us - 180_000_000) < 1_000_000
    log.threads = lambda n: "1" if n < CHANGE else "4"
    assert [(s.kind, s.late_us > 0) for s in asked(log).suspects] == [("RuntimeChanged", False), ("DriftDetected", True)]
    log = GeneratedLog(count=200_000, low=stepped(20_000, 0.05, 0.4), monitoring=[(20_000 + 16 * minute, drift())])
    assert asked(log).suspects == ()


def test_what_changed_elsewhere_is_no_suspect() -> None:
    """A promotion and a restart far from the change are not blamed."""
    log = GeneratedLog(
        count=100_000,
        low=stepped(CHANGE, 0.05, 0.4),
        releases=[registered(), promoted()],
        offset_of_releases=changed_at(CHANGE - 9_000),
        session=lambda n: "s1" if n < CHANGE + 150 else "s2",
    )
    assert asked(log).suspects == ()
    whole = GeneratedLog(count=1_000, low=stepped(500, 0.05, 0.6), session=lambda n: "s1" if n < 600 else "s2")
    assert abs(number(asked(whole), whole) - 500) < 20
    assert asked(whole).suspects == ()


def test_the_first_of_two_changes_is_found() -> None:
    """It became worse and then better: the first place, and word that it changes again."""
    log = GeneratedLog(count=100_000, low=lambda n: chance(n, 0.5 if 30_000 <= n < 70_000 else 0.02))
    found = asked(log)
    assert abs(number(found, log) - 30_000) < 40
    assert found.changes_again


def test_no_change_is_no_change() -> None:
    """One share all along: nothing is found, and few records are read for it."""
    for salt in range(5):
        log = GeneratedLog(count=100_000, low=lambda n, s=salt: chance(n, 0.2, str(s)))  # type: ignore[misc]  # a bound default
        found = asked(log)
        assert not found.found
        assert 0.15 < found.before.share < 0.25
        assert log.read_count < 3_000


def test_several_partitions_are_one_line() -> None:
    """Results of four partitions, in the order in which the broker took them."""
    log = with_threshold(partition_count=4)
    found = asked(log)
    assert found.suspects[0].kind == "ThresholdChanged"
    assert abs(number(found, log) - CHANGE) < 40
    assert log.read_count <= 9_000


def test_a_short_log_is_read_whole() -> None:
    """A few hundred results need no sampling."""
    log = with_threshold(at=300, count=600)
    found = asked(log)
    assert abs(number(found, log) - 300) < 20
    assert found.before.count + (found.after.count if found.after else 0) == 600
    assert asked(GeneratedLog(count=0, low=lambda n: False)).verdict == "there are no results in the window"


def test_thresholds_may_be_asked_for() -> None:
    """The condition of the issue: under which threshold results were made."""
    log = with_threshold()
    found = asked(log, "text_confidence < 0.5")
    assert number(found, log) == CHANGE
    assert (found.before.share, found.after.share if found.after else None) == (0.0, 1.0)
    assert found.suspects[0].loss == 0.0


def test_names_that_nothing_has_are_refused() -> None:
    """A mistyped name is a mistake, and not something that is missing everywhere."""
    log = with_threshold(count=2_000, at=1_000)
    with pytest.raises(ContractError, match="confidense"):
        asked(log, "confidense < 0.5")
    with pytest.raises(ConfigurationError):
        asked(log, "label < 0.5")


def test_a_device_that_is_not_there_has_no_results() -> None:
    """Another device's results do not stand for it."""
    assert asked(with_threshold(count=5_000, at=2_500), device="gate-9").verdict == "there are no results in the window"


@pytest.mark.parametrize(
    ("is_there", "at"),
    [
        (lambda n: n % 30 == 0, 18_541),
        (lambda n: n < 3_000, 1_500),
        (lambda n: n > 27_000, 28_000),
        (lambda n: n < 6_000 or n > 24_000, 4_500),
        (lambda n: n < 6_000 or n > 24_000, 25_500),
        (lambda n: n // 3_000 % 2 == 0, 13_500),
    ],
    ids=["one of thirty", "stops early", "comes late", "before a gap", "after a gap", "by day only"],
)
def test_a_device_among_others_is_found_wherever_it_speaks(is_there: Callable[[int], bool], at: int) -> None:
    """Others fill its partition: where the device is silent, its next results tell, and no silence is taken for no change."""
    log = with_threshold(at=at, count=30_000, device=lambda n: "gate-1" if is_there(n) else "gate-2")
    log.low = stepped(at, 0.02, 0.95)
    found = asked(log, device="gate-1")
    assert found.suspects[0].kind == "ThresholdChanged"
    assert abs(number(found, log) - at) <= 60


@pytest.mark.parametrize("every", [(1, 100, 100, 100), (1, 1000, 1000, 1000, 1000, 1000)])
@pytest.mark.parametrize("at", [12_345, 88_000])
def test_partitions_that_are_unlike_are_one_line(every: tuple[int, ...], at: int) -> None:
    """A window of a sparse partition reaches far beyond one of a dense partition; only what both have seen is compared."""
    log = UnevenLog(every=every, **fields_of(with_threshold(at=at, partition_count=len(every))))
    log.low = stepped(at, 0.05, 0.9)
    found = asked(log)
    assert found.first_after is not None
    assert abs(found.first_after.offset * every[found.first_after.partition] - at) < 40
    assert found.suspects[0].kind == "ThresholdChanged"
    assert found.records_read <= 20_000


def test_a_change_that_creeps_in_is_said_to_be_slow() -> None:
    """No place differs from the next, and the ends do: that is a change, and no event is blamed for it."""
    found = asked(GeneratedLog(count=20_000, low=lambda n: chance(n, n / 20_000), releases=[registered()]))
    assert found.found
    assert found.verdict.startswith("it changed slowly")
    assert found.suspects == ()
    assert found.after is not None
    assert found.after.low > found.before.high


def fields_of(log: GeneratedLog) -> dict[str, Any]:
    return {name: getattr(log, name) for name in GeneratedLog.__dataclass_fields__}


@dataclass(slots=True)
class UnevenLog(GeneratedLog):
    """A log whose partitions have a result every so many steps."""

    every: tuple[int, ...] = (1,)

    def bounds(self, topic: str, partition: int) -> Bounds:
        if topic in (RESULTS, INFERENCES):
            return Bounds(earliest=0, end=self.count // self.every[partition])
        return GeneratedLog.bounds(self, topic, partition)

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        if topic == MONITORING:
            return GeneratedLog.offset_at(self, topic, partition, at_ms)
        n = -(-(at_ms - START_US // 1000) // STEP_MS)
        return min(self.bounds(topic, partition).end, max(0, -(-n // self.every[partition])))

    def number_of(self, partition: int, offset: int) -> int:
        return offset * self.every[partition]
