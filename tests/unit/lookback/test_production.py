"""Who answered in production at a moment: from the newest promotion before it, the same as by brute force from the start."""

import pytest

from processors.lookback.production import InProduction, in_production
from schemas.codec import FixedSchemas
from streams.memory import MemoryBlobStore, MemoryLog
from streams.past import Past
from tests.releases_year import PIPELINE, START_US, Expected, Year, moments


class Counting(MemoryLog):
    """Counts the records that were read."""

    records_read = 0

    def read(self, topic: str, partition: int, start: int, stop: int):  # type: ignore[no-untyped-def]
        for record in super().read(topic, partition, start, stop):
            self.records_read += 1
            yield record


def of_year(seed: int, changes: int) -> tuple[Year, Past, Counting]:
    now = [0]
    log, schemas = Counting(lambda: now[0]), FixedSchemas()
    year = Year(seed, changes, schemas)
    for one in year.said:
        now[0] = one.at_us
        log.append_now(one.outgoing)
    return year, Past(log=log, schemas=schemas, blobs=MemoryBlobStore(), source="a year"), log


def as_expected(found: InProduction, at_us: int) -> Expected:
    rollout = found.rollout
    return Expected(
        at_us=at_us,
        release=found.release,
        digest=found.steps[0].digest if found.steps else None,
        threshold=found.parameters.get("text_confidence"),
        on_trial=(rollout.release, rollout.percent) if rollout is not None else None,
    )


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_brute_force_says_at_every_moment(seed: int) -> None:
    """Random moments of a year with crashes in between, and each change's own moment and the one before."""
    year, past, _ = of_year(seed, 120)
    changes = [one.at_us + late for one in year.expected[1:] for late in (-1000, 0)]
    for at_us in (*moments(seed, 60), *changes):
        wanted = year.at(at_us)
        assert as_expected(in_production(past, PIPELINE, at_us), wanted.at_us) == wanted


def test_a_long_log_is_not_read_from_its_start() -> None:
    """A year of 1,000 changes has some 5,000 records; the newest promotion and what a crash may repeat are among the last."""
    year, past, log = of_year(1, 1000)
    log.records_read = 0
    in_production(past, PIPELINE, year.expected[-1].at_us)
    assert len(year.said) > 3500
    assert log.records_read < 500


def test_before_anything_nothing_was_in_production() -> None:
    """And that is said, not guessed."""
    _, past, _ = of_year(1, 3)
    found = in_production(past, PIPELINE, START_US - 10**9)
    assert (found.release, found.steps, found.rollout) == (None, (), None)
