"""How a release on trial does so far: the samples of its present stage, folded as the judge folds them."""

from collections.abc import Callable

from processors.release.state import Rollout
from processors.repeats import Seen, writer_of
from processors.rollout import Judgement, Plan, judge
from processors.rollout.trial import JudgeStep
from schemas.catalogue import MONITORING
from schemas.events import RolloutSampled
from streams.events import events_of
from streams.partitioning import partition_of
from streams.past import Past
from streams.records import ms_from

# The start is told by the clock of whoever asked, and the log goes by the broker's.
_CLOCKS_APART_MS = 60_000


def so_far(past: Past, pipeline: str, rollout: Rollout, plan: Callable[[str], Plan]) -> Judgement | None:
    """What the judge knows of a trial; None before its first samples.

    Args:
        plan: How a trial is judged, by its kind.
    Raises:
        LogUnavailableError: no answer.
    """
    partition = partition_of(pipeline.encode(), len(past.log.partitions(MONITORING)))
    start = past.log.offset_at(MONITORING, partition, max(0, ms_from(rollout.started_at_us) - _CLOCKS_APART_MS))
    step, seen = JudgeStep(plan), Seen()
    trial = step.initial
    for record, event in events_of(past.log, past.schemas, MONITORING, partition, start=start, key=pipeline.encode()):
        if isinstance(event, RolloutSampled) and not seen.is_repeat(event, writer_of(record)):
            seen = seen.with_event(event, writer_of(record))
            trial = step.fold(trial, event) if event.rollout_id == rollout.rollout_id else trial
    return None if trial.comparison is None or trial.stage != rollout.stage else judge(trial.comparison)
