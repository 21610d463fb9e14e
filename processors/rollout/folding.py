"""Samples of a rollout folded into a state that is bounded for ever and made of plain types; `judging` acts next.

Folding in two parts comes to the same as in one. What may vary with the order in which samples of several partitions come is
which frames of a unit are its first, which units are compared with each other, and what the incumbent's first latencies are:
the numbers by a little, the guarantees of a verdict never, for none of these choices looks at what was measured.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil

from processors.rollout import comparing, units
from processors.rollout.comparing import Comparison
from processors.rollout.plan import Plan
from processors.rollout.samples import MEASURES, Sample
from processors.rollout.units import Unit

_SLOW_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of a comparison.

    `frames_*` counts samples by arm; `in_progress` and `over` are units, the longest unseen first; `first_latencies_ms` are
    gathered until `slow_ms` is set, and then empty; `comparisons` is by measure.
    """

    plan: Plan
    frames_incumbent: int = 0
    frames_candidate: int = 0
    in_progress: tuple[Unit, ...] = ()
    over: tuple[str, ...] = ()
    first_latencies_ms: tuple[float, ...] = ()
    slow_ms: float | None = None
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)


def begin(plan: Plan) -> State:
    """Before the first sample."""
    return State(plan=plan)


def fold(state: State, samples: Iterable[Sample]) -> State:
    """With more samples."""
    work = _Work(state)
    for sample in samples:
        work.add(sample)
    return work.state()


class _Work:
    """A state while it is folded: the same in dicts that are changed in place, as a copy at each sample would cost more."""

    def __init__(self, state: State) -> None:
        self._plan = state.plan
        self._frames = {"incumbent": state.frames_incumbent, "candidate": state.frames_candidate}
        self._in_progress = {unit.key: unit for unit in state.in_progress}
        self._over = dict.fromkeys(state.over)
        self._first_latencies_ms = list(state.first_latencies_ms)
        self._slow_ms = state.slow_ms
        self._comparisons = dict(state.comparisons)

    def state(self) -> State:
        return State(
            plan=self._plan,
            frames_incumbent=self._frames["incumbent"],
            frames_candidate=self._frames["candidate"],
            in_progress=tuple(self._in_progress.values()),
            over=tuple(self._over),
            first_latencies_ms=tuple(self._first_latencies_ms),
            slow_ms=self._slow_ms,
            comparisons=self._comparisons,
        )

    def add(self, sample: Sample) -> None:
        self._frames[sample.arm] += 1
        key = units.key_of(sample.unit)
        if key in self._over:
            del self._over[key]
            self._over[key] = None
        else:
            self._add_to_unit(key, sample)
        self._time(sample)
        self._end_overdue()

    def _add_to_unit(self, key: str, sample: Sample) -> None:
        """Taken out and put in again, a unit stands last: units in progress are in the order in which they were last seen."""
        plan = self._plan
        unit = units.with_sample(
            self._in_progress.pop(key, Unit(key=key, seen_at=0)),
            sample,
            seen_at=self._seen(),
            frames_max=plan.unit_frames_max,
            readings_max=plan.readings_max,
            slow_ms=self._slow_ms,
        )
        if units.is_full(unit, frames_max=plan.unit_frames_max, paired=plan.paired):
            self._end(unit)
        else:
            self._in_progress[key] = unit

    def _time(self, sample: Sample) -> None:
        """The incumbent's first latencies set what slow is, and none of them is compared: what slow is was fixed before."""
        if self._slow_ms is not None or sample.arm != "incumbent" or sample.latency_ms is None:
            return
        self._first_latencies_ms.append(float(sample.latency_ms))
        if len(self._first_latencies_ms) >= self._plan.latency_samples:
            self._slow_ms = sorted(self._first_latencies_ms)[ceil(_SLOW_SHARE * len(self._first_latencies_ms)) - 1]
            self._first_latencies_ms.clear()

    def _end_overdue(self) -> None:
        while self._in_progress:
            first = next(iter(self._in_progress.values()))
            if len(self._in_progress) <= units.OPEN_MAX and self._seen() - first.seen_at < self._plan.unit_patience_samples:
                return
            self._end(self._in_progress.pop(first.key))

    def _end(self, unit: Unit) -> None:
        for measure, old, new in zip(MEASURES, units.means(unit, "incumbent"), units.means(unit, "candidate"), strict=True):
            comparison = self._comparisons.get(measure, Comparison())
            if old is not None and new is not None:
                self._comparisons[measure] = comparing.both(comparison, old, new)
            elif not self._plan.paired and old is not None:
                self._comparisons[measure] = comparing.one(comparison, "incumbent", old)
            elif not self._plan.paired and new is not None:
                self._comparisons[measure] = comparing.one(comparison, "candidate", new)
        self._over[unit.key] = None
        if len(self._over) > units.OVER_MAX:
            del self._over[next(iter(self._over))]

    def _seen(self) -> int:
        return self._frames["incumbent"] + self._frames["candidate"]
