"""The steps in a seeded world of deaths, zombies, redelivery and outages: it heals, and everything must add up.

Each seed prints itself when it fails; `World(seed=N)` is the same run again. Set HINDSIGHT_SEEDS for a longer sweep.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import structlog

from processors.infer import core as infer
from processors.repeats import Seen
from schemas import ids
from tests.simulation import checks, virtual_time
from tests.simulation.world import World

SEEDS = int(os.environ.get("HINDSIGHT_SEEDS", "60"))
SEEDS_FOR_A_PLANT = 60


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of faults are logged as they should be; nobody reads them here."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.configure(**before)


def run(seed: int, plant: str = "") -> tuple[list[str], str]:
    """One world from start to end: what is wrong with it, and the digest of its log."""

    async def whole() -> tuple[list[str], str]:
        world = World(seed, plant)
        await world.run()
        return await checks.troubles(world), checks.digest(world)

    return virtual_time.run(whole)


def test_every_world_heals_and_adds_up() -> None:
    """Whatever goes wrong on the way, each frame ends with one outcome and one counted result, and each view is its log."""
    found = {seed: troubles for seed in range(SEEDS) if (troubles := run(seed)[0])}
    assert found == {}


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
