"""Bisecting where frames of one passage are alike: what chance makes of passages is no change, and what is one is found."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import pytest

from processors.lookback.changed import Bisection
from tests.unit.lookback.test_bisect import GeneratedLog, asked, changed_at, number, promoted, registered

SIZE = 8


def by_passage(n: int) -> str:
    return f"p{n // SIZE}"


def drawn(n: int, share: float, salt: str) -> bool:
    """The same answer for the same place, and independent of its neighbours' (a checksum's is not)."""
    return int.from_bytes(blake2b(f"{salt}/{n}".encode(), digest_size=4).digest()) / 2**32 < share


def alike(share: float, salt: str) -> Callable[[int], bool]:
    """Each passage is read well or badly as a whole."""
    return lambda n: drawn(n // SIZE, share, salt)


def promoted_at(at: int, count: int, low: Callable[[int], bool], **more: Any) -> GeneratedLog:
    return GeneratedLog(
        count=count,
        low=low,
        passage=by_passage,
        releases=[registered(), promoted()],
        offset_of_releases=changed_at(at),
        **more,
    )


def found_of(count: int, times: int, *, passage: Callable[[int], str | None]) -> int:
    return sum(asked(GeneratedLog(count=count, low=alike(0.3, f"c{n}"), passage=passage)).found for n in range(times))


def test_passages_that_are_alike_are_no_change_in_short_logs() -> None:
    """20 passages, 3 of 10 read badly all along: hardly ever is that said to be a change."""
    assert found_of(20 * SIZE, 60, passage=by_passage) <= 3


def test_passages_that_are_alike_are_no_change_in_long_logs() -> None:
    """The same of 2,500 passages, by samples."""
    assert found_of(2_500 * SIZE, 6, passage=by_passage) == 0


def test_lone_frames_that_are_like_the_one_before_are_no_change() -> None:
    """Frames without a passage that come in runs prove less than as many that have nothing in common."""
    assert found_of(20 * SIZE, 60, passage=lambda n: None) <= 3


def test_a_change_by_passages_is_found_in_a_short_log() -> None:
    """Three dozen passages on each side: nearly always found, and the promotion named."""
    at = 36 * SIZE
    found = []
    for n in range(20):
        before, after = alike(0.05, f"s{n}"), alike(0.6, f"s{n}")
        log = promoted_at(at, 2 * at, lambda n, b=before, a=after: b(n) if n < at else a(n))  # type: ignore[misc]  # bound defaults
        found.append(asked(log))
    proved = [f for f in found if f.found]
    assert len(proved) >= 18
    assert sum([s.kind for s in f.suspects] == ["ReleasePromoted"] for f in proved) >= 18
    assert all(f.before.passages_count + (f.after.passages_count if f.after else 0) == 72 for f in proved)


@pytest.mark.parametrize("at", [1_800 * SIZE, 7_725 * SIZE, 12_000 * SIZE])
def test_a_change_by_passages_is_found_in_a_long_log(at: int) -> None:
    """Of 12,500 passages, by some more reads than lone frames take, and by the logarithm too."""
    before, after = alike(0.05, "l"), alike(0.6, "l")
    log = promoted_at(at, 100_000, lambda n: before(n) if n < at else after(n))
    found = asked(log)
    assert found.found
    assert "ReleasePromoted" in [s.kind for s in found.suspects]
    assert abs(number(found, log) - at) <= 8 * SIZE
    assert found.records_read <= 20_000


def test_two_trucks_prove_nothing() -> None:
    """One read well and the next badly: it is told what changed, on how few passages that rests, and it is not found."""
    log = promoted_at(SIZE, 2 * SIZE, lambda n: n >= SIZE)
    told = asked(log)
    assert (told.found, told.is_weak) == (False, True)
    assert told.verdict.startswith("no proof, since it rests on 2 passages only: r1 was promoted by mr")
    assert [s.kind for s in told.suspects] == ["ReleasePromoted"]
    assert number(told, log) == SIZE
    assert told.before.high > 0.75
    assert told.before.passages_count == 1


def test_as_many_trucks_as_prove_it_do() -> None:
    """Eleven passages that are plainly of two kinds; ten are too few."""

    def of(count: int) -> Bisection:
        return asked(promoted_at(5 * SIZE, count * SIZE, lambda n: n >= 5 * SIZE))

    assert (of(10).found, of(10).is_weak) == (False, True)
    assert (of(11).found, of(11).is_weak) == (True, False)
    assert "before it held for 0 of 40 in 5 passages" in of(11).verdict


def test_what_is_likely_and_not_proved_is_told_as_such() -> None:
    """Sixteen passages of which six of the last eight are bad: a hundred times likelier with a change, and not a thousand."""
    told = asked(promoted_at(8 * SIZE, 16 * SIZE, lambda n: n // SIZE >= 8 and n // SIZE not in (10, 13)))
    assert (told.found, told.is_weak) == (False, True)
    assert told.verdict.startswith("no proof, since it rests on 16 passages only")


def test_frames_of_a_passage_that_have_nothing_in_common_count_each() -> None:
    """What differs from frame to frame is proved by fewer passages."""
    at = 12 * SIZE
    log = promoted_at(at, 2 * at, lambda n: drawn(n, 0.1 if n < at else 0.5, "i"))
    found = asked(log)
    assert found.found
    assert found.before.high - found.before.low < 0.25


def test_a_passage_is_one_of_a_device_and_session() -> None:
    """Two devices, or a device on two days, that name their passages alike have seen as many."""
    rows = {"device": lambda n: f"gate-{n % 2}", "session": lambda n: f"s{n // 80}"}
    told = asked(GeneratedLog(count=160, low=lambda n: False, passage=lambda n: f"p{n % 80 // 16}", **rows))
    assert told.before.passages_count == 20
    assert asked(GeneratedLog(count=160, low=lambda n: False)).before.passages_count == 160
