"""Numbers of both sides of a trial, gathered and passed on some at a time. Pure.

Reads one of the topics that hold readings; writes `RolloutSampled` to vision.monitoring, keyed by the pipeline, so that one
place sees the samples of every partition. Passed on are at least every `_CANDIDATES`-th reading of the candidate, every
`_SAMPLES`-th of all, and what has waited for `_WAIT_US` when the next one comes.
"""

from dataclasses import dataclass
from typing import Any

from processors.infer.core import CANDIDATE_FAILED
from processors.release.routing import CANDIDATE, INCUMBENT
from processors.release.state import CANARY
from processors.rollout.measuring import ERROR, measures_of
from processors.rules.contract import Rules
from processors.step import Cause
from schemas import ids
from schemas.events import CandidateCompleted, CandidateFailed, InferenceCompleted, InferenceFailed, RolloutSampled
from schemas.types import FrameRef, RolloutArm, RolloutSample

_CANDIDATES = 4
_SAMPLES = 32
_WAIT_US = 1_000_000
_ALIKE_US = 60_000_000

Read = InferenceCompleted | InferenceFailed | CandidateCompleted | CandidateFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Samples of one trial that were not passed on yet."""

    stage: int = 0
    samples: tuple[RolloutSample, ...] = ()
    since_us: int = 0


class SamplingStep:
    """Reads vision.inferences or vision.candidates. State: by trial, the samples that wait.

    Args:
        name: What the processor is called; two that read different topics are two.
        topic: What it reads.
    """

    state_type = Waiting
    initial = Waiting()

    def __init__(self, rules: Rules, *, name: str, topic: str) -> None:
        self.name = name
        self.topic = topic
        self._rules = rules

    def key(self, event: Any) -> str | None:
        arm = getattr(event, "rollout", None)
        return arm.rollout_id if arm is not None else None

    def decide(self, state: Waiting, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        if self.key(event) is None:
            return ()
        passed_on, _ = gathered(self._rules, state, event)
        return tuple(_sampled(event, stage, samples, cause, index) for index, (stage, samples) in enumerate(passed_on) if samples)

    def fold(self, state: Waiting, event: Any) -> Waiting:
        return gathered(self._rules, state, event)[1]


def gathered(rules: Rules, state: Waiting, event: Read) -> tuple[tuple[tuple[int, tuple[RolloutSample, ...]], ...], Waiting]:
    """What is passed on now, by stage, and what waits after that."""
    arm = event.rollout
    if arm is None or not (new := samples_of(rules, event)):
        return (), state
    over = ((state.stage, state.samples),) if arm.stage != state.stage and state.samples else ()
    since_us = event.started_at_us if over or not state.samples else state.since_us
    samples = new if over else (*state.samples, *new)
    if _is_due(samples, event.started_at_us - since_us):
        return (*over, (arm.stage, samples)), Waiting(stage=arm.stage)
    return over, Waiting(stage=arm.stage, samples=samples, since_us=since_us)


def samples_of(rules: Rules, event: Read) -> tuple[RolloutSample, ...]:
    """The samples of one event: of a shadow a pair, of a canary the side that read, or that the candidate failed. That it was not
    to be had is no sample: what is known of that is told by the loader."""
    arm = event.rollout
    assert arm is not None, "asked for events of a trial only"
    if isinstance(event, (InferenceCompleted, InferenceFailed)):
        if event.supersedes is not None:
            return ()  # a frame that was read again, because somebody asked for it
        if arm.arm == CANDIDATE_FAILED:
            return (_sample(CANDIDATE, event.frame, ERROR),)
        return (_sample(arm.arm, event.frame, measures_of(rules, event)),) if arm.kind == CANARY else ()
    if arm.kind == CANARY:
        return ()  # told by the reading that took its place, in the order of all readings
    measures = ERROR if isinstance(event, CandidateFailed) else event.measures
    pair = (_sample(INCUMBENT, event.frame, event.incumbent_measures),) if event.incumbent_measures else ()
    return (*pair, _sample(CANDIDATE, event.frame, measures))


def _is_due(samples: tuple[RolloutSample, ...], waited_us: int) -> bool:
    candidates = sum(s.arm == CANDIDATE for s in samples)
    return candidates >= _CANDIDATES or len(samples) >= _SAMPLES or waited_us >= _WAIT_US


def _sample(arm: str, frame: FrameRef, measures: Any) -> RolloutSample:
    """Frames of a passage are alike, and so are those that a device without passages takes within a minute."""
    alike = frame.passage_id if frame.passage_id is not None else f"@{frame.captured_at_us // _ALIKE_US}"
    return RolloutSample(arm=arm, unit=f"{frame.device_id}/{alike}", frame_id=frame.frame_id, measures=measures)


def _sampled(event: Read, stage: int, samples: tuple[RolloutSample, ...], cause: Cause, index: int) -> RolloutSampled:
    source, arm = cause.source(index), event.rollout
    assert isinstance(arm, RolloutArm), "asked for events of a trial only"
    return RolloutSampled(
        event_id=ids.event_id(source, "RolloutSampled"),
        source=source,
        subject=event.pipeline,
        pipeline=event.pipeline,
        rollout_id=arm.rollout_id,
        kind=arm.kind,
        stage=stage,
        samples=samples,
        sampled_at_us=event.started_at_us,
        releases_offset=event.releases_offset,
    )
