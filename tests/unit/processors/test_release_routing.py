"""release, routing: a canary's share of the units is read by the candidate, and a passage by one release from start to end."""

from dataclasses import replace
from typing import Any

from processors.release.routing import Assigning, reads_instead, share_of
from processors.release.state import PipelineReleases
from schemas.types import FrameRef
from tests.given import frame
from tests.unit.processors.test_release_core import after, change
from tests.unit.processors.test_release_rollouts import CANARY, READY, canary, shadow, verdict


def read_by(state: PipelineReleases, frames: list[FrameRef], assigning: Assigning | None = None) -> list[str | None]:
    assigning = assigning or Assigning()
    return [assigning.assigned(state, one).release for one in frames]


def passages(count: int, device: str = "gate-1") -> list[FrameRef]:
    return [frame(n, device=device, passage=f"p{n}") for n in range(count)]


def test_without_a_trial_the_release_in_force_reads_everything() -> None:
    """With its own pins and thresholds, and on no side."""
    assigned = Assigning().assigned(after(*READY, change("text_confidence", 0.7)), frame())
    assert (assigned.release, assigned.parameters, assigned.pins, assigned.rollout) == (
        "r1",
        {"text_confidence": 0.7},
        {"detection": "ab"},
        None,
    )


def test_a_shadow_changes_nobody_s_reader() -> None:
    """Each frame is marked as read by the incumbent, so that the other can read it beside."""
    assigned = Assigning().assigned(after(*READY, shadow()), frame())
    assert assigned.rollout is not None
    assert (assigned.release, assigned.rollout.kind, assigned.rollout.arm) == ("r1", "shadow", "incumbent")


def test_a_canary_reads_its_share_of_the_passages() -> None:
    """Of 4,000 passages about a quarter, and each frame says on which side it is."""
    state = after(*READY, canary(25.0))
    read = read_by(state, passages(4000))
    assert 0.22 < read.count("r2") / 4000 < 0.28
    sides = {Assigning().assigned(state, one).rollout.arm for one in passages(50)}  # type: ignore[union-attr]
    assert sides == {"incumbent", "candidate"}


def test_by_devices_all_passages_of_a_device_are_on_one_side() -> None:
    """Of 400 devices some are on each."""
    state = after(*READY, canary(50.0, unit="device"))
    sides = [set(read_by(state, passages(8, f"gate-{n}"))) for n in range(400)]
    assert all(len(side) == 1 for side in sides)
    assert {"r1", "r2"} == set().union(*sides)


def test_without_passages_a_device_is_the_unit() -> None:
    """Frames that stand alone are not scattered over both."""
    state = after(*READY, canary(50.0))
    assert all(len(set(read_by(state, [frame(n, device=f"g{d}") for n in range(9)]))) == 1 for d in range(50))


def test_who_is_on_the_candidate_s_side_stays_there_when_the_share_grows() -> None:
    """A unit never goes back and forth."""
    before = read_by(after(*READY, canary(5.0, 25.0)), passages(2000))
    later = read_by(after(*READY, canary(5.0, 25.0), verdict("successful")), passages(2000))
    assert all(now == "r2" for was, now in zip(before, later, strict=True) if was == "r2")
    assert later.count("r2") > 2 * before.count("r2")


def test_a_passage_that_has_begun_stays_on_its_side_when_a_stage_begins() -> None:
    """One passage never sees two releases; passages that begin then see the new share."""
    assigning, frames = Assigning(), passages(2000)
    before = read_by(after(*READY, canary(5.0, 50.0)), frames, assigning)
    grown = after(*READY, canary(5.0, 50.0), verdict("successful"))
    assert read_by(grown, frames, assigning) == before
    new = [replace(one, passage_id=f"new{n}") for n, one in enumerate(frames)]
    assert 0.45 < read_by(grown, new, assigning).count("r2") / 2000 < 0.55


def test_a_passage_that_began_before_a_trial_is_not_given_to_it() -> None:
    """Those that begin afterwards are shared."""
    assigning, frames = Assigning(), passages(500)
    assert set(read_by(after(*READY), frames, assigning)) == {"r1"}
    running = after(*READY, canary(50.0))
    assert set(read_by(running, frames, assigning)) == {"r1"}
    assert set(read_by(running, [replace(one, passage_id=f"n{one.passage_id}") for one in frames], assigning)) == {"r1", "r2"}


def test_when_a_trial_is_over_its_passages_are_read_by_the_release_in_force_at_once() -> None:
    """A candidate that failed reads nothing more, not even what it has begun."""
    assigning, frames = Assigning(), passages(500)
    assert "r2" in read_by(after(*CANARY), frames, assigning)
    assert set(read_by(after(*CANARY, verdict("failed")), frames, assigning)) == {"r1"}


def test_another_trial_mixes_anew() -> None:
    """The same units would otherwise bear every trial."""
    mine: list[Any] = [share_of("one", f"gate-{n}") < 10 for n in range(3000)]
    other = [share_of("two", f"gate-{n}") < 10 for n in range(3000)]
    both = sum(a and b for a, b in zip(mine, other, strict=True))
    assert both < 60


def test_what_reads_instead_of_a_candidate_is_the_release_in_force_and_on_no_side() -> None:
    """A frame that the candidate failed on is no sample of the incumbent: the others it reads are not like it."""
    instead = reads_instead(after(*CANARY))
    assert (instead.release, instead.rollout) == ("r1", None)
