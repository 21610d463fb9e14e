"""A trial from end to end without servers: routed, read, sampled, judged and decided by the processors' own cores."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from processors.release import core
from processors.release.routing import CANDIDATE, Assigning, reads_instead
from processors.rollout.plan import Plan
from processors.rollout.sampling import SamplingStep
from processors.rollout.trial import JudgeStep
from processors.rules import container_codes
from processors.shadow.step import candidate_of
from schemas.catalogue import CANDIDATES, COMMANDS, INFERENCES, MONITORING
from schemas.events import CandidateFailed, InferenceCompleted, InferenceFailed, ReportVerdict, RolloutSampled
from schemas.plain import canonical_json, from_plain
from schemas.types import RolloutSample
from tests.given import cause, completed, frame
from tests.unit.processors.test_release_core import after
from tests.unit.processors.test_release_rollouts import READY, abort, canary, shadow

GOOD, BAD = "MSCU1234566", "MSCU1234567"
Reads = Callable[[random.Random], tuple[str, int]]


def good(rng: random.Random) -> tuple[str, int]:
    return (GOOD if rng.random() < 0.95 else BAD), rng.randrange(90_000, 110_000)


def bad(rng: random.Random) -> tuple[str, int]:
    return (GOOD if rng.random() < 0.5 else BAD), rng.randrange(90_000, 110_000)


def slow(rng: random.Random) -> tuple[str, int]:
    return good(rng)[0], rng.randrange(190_000, 210_000)


class World:
    """A gate whose passages of two frames are read one after the other; every event goes where it would go."""

    def __init__(self, start: Any, reads: Reads, *, crashes: bool = False, seed: int = 1) -> None:
        self.state = after(*READY, start)
        self._rng = random.Random(seed)
        self._reads, self._crashes = reads, crashes
        self._assigning = Assigning()
        self._steps = {
            INFERENCES: SamplingStep(container_codes, name="sample_inferences", topic=INFERENCES),
            CANDIDATES: SamplingStep(container_codes, name="sample_candidates", topic=CANDIDATES),
            MONITORING: JudgeStep(lambda kind: Plan(paired=kind == "shadow")),
        }
        self._states: dict[tuple[str, str], Any] = {}
        self._offset = 0
        self.frames = self.by_candidate = 0
        self.verdicts: list[ReportVerdict] = []

    def run(self, passages: int) -> None:
        """Until the trial is over, judged at its last stage, or so many passages went by."""
        for number in range(passages):
            for part in range(2):
                rollout = self.state.rollout
                if rollout is None or (rollout.verdict and rollout.stage + 1 >= len(rollout.steps_percent)):
                    return
                self._frame(2 * number + part, f"p{number}")

    def _frame(self, sequence: int, passage: str) -> None:
        assigned = self._assigning.assigned(self.state, frame(sequence, passage=passage))
        assert assigned.rollout is not None
        self.frames += 1
        on_trial = assigned.rollout.arm == CANDIDATE
        self.by_candidate += on_trial
        text, took_us = (self._reads if on_trial else good)(self._rng)
        read = replace(
            completed(sequence, text, passage=passage, release=str(assigned.release)),
            rollout=assigned.rollout,
            duration_us=took_us,
            started_at_us=sequence * 1_000_000,
        )
        if on_trial and self._crashes:
            self._given(CANDIDATES, crashed(read))
            missed = replace(assigned.rollout, arm="candidate_failed")
            self._given(INFERENCES, replace(read, release=str(reads_instead(self.state).release), rollout=missed))
            return
        self._given(INFERENCES, read)
        if assigned.rollout.kind == "shadow":
            text, took_us = self._reads(self._rng)
            other = completed(sequence, text, passage=passage, release="r2")
            arm = replace(assigned.rollout, arm=CANDIDATE)
            other = replace(other, rollout=arm, duration_us=took_us, started_at_us=read.started_at_us)
            self._given(CANDIDATES, candidate_of(other, read, container_codes, cause(sequence, INFERENCES)))

    def _given(self, topic: str, event: Any) -> None:
        step: Any = self._steps[topic]
        key = step.key(event)
        if key is None:
            return
        self._offset += 1
        state = self._states.get((step.name, key), step.initial)
        decided = step.decide(state, event, None, cause(self._offset, topic))
        after_it = step.fold(state, event)
        self._states[step.name, key] = from_plain(type(after_it), json.loads(canonical_json(after_it)))
        for one in decided:
            self._follows(one)

    def _follows(self, event: Any) -> None:
        if isinstance(event, RolloutSampled):
            self._given(MONITORING, event)
            return
        assert isinstance(event, ReportVerdict)
        self.verdicts.append(event)
        self.state = core.fold_all(core.decide(self.state, event, cause(self._offset, COMMANDS)), self.state)


def crashed(read: InferenceCompleted) -> CandidateFailed:
    assert read.rollout is not None
    return CandidateFailed(
        event_id=read.event_id,
        source=read.source,
        frame=read.frame,
        pipeline=read.pipeline,
        release="r2",
        releases_offset=3,
        endpoint="one:8001",
        attempts=1,
        started_at_us=read.started_at_us,
        duration_us=5,
        error_class="step_failed",
        error_message="boom",
        rollout=read.rollout,
        incumbent_measures={},
    )


@pytest.mark.parametrize("start", [canary(10.0), shadow()])
def test_a_worse_candidate_is_rolled_back(start: Any) -> None:
    """By the measure that is worse, within a bounded number of frames, while the release in force stays."""
    world = World(start, bad)
    world.run(3000)
    (verdict,) = world.verdicts
    assert (verdict.verdict, verdict.deciding) == ("failed", "valid")
    assert (world.state.rollout, world.state.in_force, world.state.releases["r2"].verdict) == (None, "r1", "failed")
    assert world.by_candidate < 400


def test_a_candidate_that_crashes_is_rolled_back_within_few_of_its_frames() -> None:
    """Its errors are samples, and the frames that the release in force read instead are none."""
    world = World(canary(10.0), good, crashes=True)
    world.run(3000)
    assert [(v.verdict, v.deciding) for v in world.verdicts] == [("failed", "error")]
    assert world.by_candidate < 100


def test_a_slow_candidate_is_rolled_back() -> None:
    """Twice the time of the release in force."""
    world = World(canary(25.0), slow)
    world.run(3000)
    assert [(v.verdict, v.deciding) for v in world.verdicts] == [("failed", "latency")]


def test_an_equal_candidate_goes_through_its_shares() -> None:
    """Each stage is judged by its own samples, and the last success waits for a person."""
    world = World(canary(25.0, 50.0), good)
    world.run(40_000)
    assert [(v.verdict, v.stage) for v in world.verdicts] == [("successful", 0), ("successful", 1)]
    assert world.state.rollout is not None
    assert (world.state.rollout.percent, world.state.rollout.verdict, world.state.in_force) == (50.0, "successful", "r1")


def test_a_shadow_measures_how_often_the_two_disagree() -> None:
    """The share stands in the samples of the candidate; equal readings do not disagree."""
    read = replace(completed(1, GOOD), rollout=_arm("incumbent"))
    other = candidate_of(replace(read, release="r2"), read, container_codes, cause())
    assert other.measures["disagrees"] == 0.0  # type: ignore[union-attr]
    other = candidate_of(replace(completed(1, BAD), release="r2", rollout=_arm()), read, container_codes, cause())
    assert other.measures["disagrees"] == 1.0  # type: ignore[union-attr]


def test_frames_after_the_end_change_nothing() -> None:
    """A candidate's late samples, of a trial that was aborted, reach no verdict on the next one."""
    world = World(canary(50.0), bad)
    world.run(5)
    world.state = core.fold_all(core.decide(world.state, abort(), cause(9, COMMANDS)), world.state)
    assert world.state.rollout is None
    world.run(5)
    assert world.verdicts == []


def test_a_failure_of_the_release_in_force_in_a_shadow_is_a_sample_of_it() -> None:
    """The pair is kept: what the candidate could do and the incumbent could not, counts for the candidate."""
    failed = InferenceFailed(
        event_id=completed(1).event_id,
        source=cause(1).position,
        frame=frame(1, passage="p"),
        pipeline="gate",
        release="r1",
        releases_offset=3,
        endpoint="",
        attempts=4,
        started_at_us=1,
        duration_us=1,
        error_class="timeout",
        error_message="",
        rollout=_arm("incumbent"),
    )
    other = candidate_of(replace(completed(1, GOOD), release="r2", rollout=_arm()), failed, container_codes, cause())
    assert (other.incumbent_measures, other.measures["error"], other.measures["disagrees"]) == ({"error": 1.0}, 0.0, 1.0)  # type: ignore[union-attr]


def _arm(arm: str = CANDIDATE) -> Any:
    from schemas.types import RolloutArm

    return RolloutArm(rollout_id="trial", kind="shadow", stage=0, arm=arm)


def test_a_late_sample_of_an_older_trial_does_not_end_the_judging_of_the_one_that_runs() -> None:
    """A partition that lags may tell of a trial that was aborted before this one began."""
    world = World(canary(50.0), good, crashes=True)
    world.run(4)
    samples = [s for name, s in world._states.items() if name[0] == "judge"]
    assert samples, "the judge has seen something"
    late = _sampled("older", releases_offset=1)
    world._given(MONITORING, late)
    world.run(400)
    assert [v.verdict for v in world.verdicts] == ["failed"]


def test_what_went_well_is_watched_on_and_can_still_fail() -> None:
    """Told once for the success, and once for the failure."""
    world = World(canary(50.0), good)
    world.run(40_000)
    assert [v.verdict for v in world.verdicts] == ["successful"]
    world._crashes = True
    for number in range(100_000, 102_000):
        if world.state.rollout is None:
            break
        world._frame(number, f"q{number}")
    assert [v.verdict for v in world.verdicts] == ["successful", "failed"]
    assert world.state.rollout is None


def _sampled(rollout_id: str, *, releases_offset: int) -> RolloutSampled:
    sample = RolloutSample(arm=CANDIDATE, unit="gate-9/p", frame_id=frame(1).frame_id, measures={"error": 0.0})
    return RolloutSampled(
        event_id=completed(1).event_id,
        source=cause(1).position,
        subject="gate",
        pipeline="gate",
        rollout_id=rollout_id,
        kind="canary",
        stage=0,
        samples=(sample,),
        sampled_at_us=1,
        releases_offset=releases_offset,
    )
