"""The steps in a seeded world of deaths, zombies, redelivery and outages: it heals, and everything must add up.

A seed that fails is shrunk, and printed with the command that runs the small world again. HINDSIGHT_SEEDS sets how many there
are; `make simulate` runs 10,000 on all cores.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from processors.infer import core as infer
from processors.repeats import Seen
from schemas import ids
from tests.simulation.running import quiet, run
from tests.simulation.shape import Shape
from tests.simulation.shrinking import kind_of, shrink

SEEDS = int(os.environ.get("HINDSIGHT_SEEDS", "500"))
SEEDS_FOR_A_PLANT = 60


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


def test_every_world_heals_and_adds_up() -> None:
    """Whatever goes wrong on the way, each frame ends with one outcome and one counted result, and each view is its log."""
    for seed in range(SEEDS):
        if run(seed)[0]:
            small = shrink(seed, lambda other, shape: run(other, "", shape)[0])
            pytest.fail(f"seed {seed}: {small.trouble}\n{small.command()}")


def test_the_same_seed_is_the_same_run() -> None:
    """Nothing but the seed decides: a second run writes the same records with the same ids at the same places."""
    assert [run(seed)[1] for seed in (3, 4, 5)] == [run(seed)[1] for seed in (3, 4, 5)]


@contextmanager
def _repeats_are_counted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Seen, "is_repeat", lambda self, event, writer="": False)
        yield


@contextmanager
def _ids_are_drawn() -> Iterator[None]:
    numbers = iter(range(10**9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "event_id", lambda source, name: ids.named_id("drawn", str(next(numbers))))
        yield


@contextmanager
def _anything_reads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infer, "strangers", lambda pins, report_json: {})
        yield


PLANTS: dict[str, tuple[Callable[[], AbstractContextManager[None]], str]] = {
    "early_ack": (nullcontext, "has no outcome"),
    "gap": (nullcontext, "counted results"),
    "overtake": (nullcontext, "counted results"),
    "two_steps": (nullcontext, "counted results"),
    "no_comparing": (nullcontext, "position went back"),
    "repeats_are_counted": (_repeats_are_counted, "has 2 counted results"),
    "ids_are_drawn": (_ids_are_drawn, "ids"),
    "garbage_is_dropped": (nullcontext, "is not among the dead letters"),
    "first_partition": (nullcontext, "lies where its key does not say"),
    "anything_reads": (_anything_reads, "does not pin"),
    "flush_keeps_position": (nullcontext, "is not the fold of its log"),
    "nobody_comes": (nullcontext, "stuck"),
    "trials_never_end": (nullcontext, "was not to read it"),
    "knows_the_future": (nullcontext, "not yet known"),
    "forgets_unanswered": (nullcontext, "told to be given up False"),
    "cuts_too_far": (nullcontext, "is not the fold of its log"),
    "erased_stays": (nullcontext, "was erased and can be read"),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_each_planted_bug_is_caught(plant: str) -> None:
    """A checker that never fires checks nothing: each known bug is found by the check that is there for it."""
    planting, complaint = PLANTS[plant]
    with planting():
        for seed in range(SEEDS_FOR_A_PLANT):
            if any(complaint in trouble for trouble in run(seed, plant)[0]):
                return
    pytest.fail(f"{plant} was not caught as {complaint!r} in {SEEDS_FOR_A_PLANT} seeds")


def test_a_failing_world_shrinks_to_a_small_one_that_fails_alike() -> None:
    """What is printed with a failing seed is a world of few frames and kinds of trouble, and the command that runs it."""

    def troubles(seed: int, shape: Shape) -> list[str]:
        return run(seed, "garbage_is_dropped", shape)[0]

    small = shrink(3, troubles, shape=Shape(frames=4, faulty_s=2.0), tries=80)
    assert kind_of(troubles(small.seed, small.shape)[0]) == kind_of(small.trouble)
    assert small.shape.frames <= 2
    assert small.shape.has("garbage")
    assert len(small.shape.without) >= 10
    assert small.command().startswith(f"python -m tests.simulation {small.seed} --frames ")
