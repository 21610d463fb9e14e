"""What goes wrong, and when."""

from itertools import islice

import pytest

from tests.chaos.plan import Fault, Round, rounds


def first(seed: int, count: int) -> list[Round]:
    return list(islice(rounds(seed, hold_s=30), count))


def test_a_seed_gives_the_same_rounds_every_time_and_another_seed_others() -> None:
    """A run is done again by its seed."""
    assert first(7, 60) == first(7, 60)
    assert first(7, 60) != first(8, 60)


@pytest.mark.parametrize("seed", range(20))
def test_every_fault_comes_alone_once_before_two_come_together(seed: int) -> None:
    """Round 0 has none; the first pass shows each fault by itself, and the next passes overlap them two by two."""
    found = first(seed, 1 + len(Fault) + 9)
    assert found[0].strikes == ()
    assert {strike.fault for one in found[1 : 1 + len(Fault)] for strike in one.strikes} == set(Fault)
    assert all(len(one.strikes) == 1 for one in found[1 : 1 + len(Fault)])
    assert sorted(s.fault for one in found[1 + len(Fault) :] for s in one.strikes) == sorted(Fault)
    assert [one.number for one in found] == list(range(len(found)))


def test_a_bound_is_stated_for_every_fault_and_covers_the_time_that_it_is_held() -> None:
    """What is stopped for 30 s may cost 30 s and a recovery; faults that overlap may add up."""
    for one in first(3, 60):
        assert one.bound_s > sum(strike.hold_s for strike in one.strikes)
        assert one.bound_s == (sum(strike.bound_s for strike in one.strikes) or 30)
