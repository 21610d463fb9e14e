"""Counts of a what-if: agreement, proofs, changes, alerts, passages and the worst cases; bounded, however long the window.

Rates have Wilson intervals at 95 %. Frames of one passage show the same thing again and again, so that intervals over
frames are too narrow; those over passages are not.
"""

import heapq
import math
from collections import Counter, OrderedDict
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from processors.whatif.match import Kind
from processors.whatif.replay import FrameCompared, Side
from schemas.events import AlertRaised
from schemas.types import Reading

CONFIDENCE = 0.95
_PASSAGES_OPEN = 10_000
_ALERTS_LISTED = 200
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share with its Wilson score interval; all three are None when there is nothing to count."""

    count: int
    of: int
    rate: float | None
    low: float | None
    high: float | None


def wilson(count: int, of: int) -> Rate:
    """The Wilson score interval of a share.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if of == 0:
        return Rate(count=count, of=of, rate=None, low=None, high=None)
    share, weight = count / of, _Z * _Z / of
    middle = (share + weight / 2) / (1 + weight)
    reach = _Z / (1 + weight) * math.sqrt(share * (1 - share) / of + weight / (4 * of))
    # At the ends the interval touches 0 and 1 exactly, and rounding must not push it past the share itself.
    low = 0.0 if count == 0 else min(share, middle - reach)
    high = 1.0 if count == of else max(share, middle + reach)
    return Rate(count=count, of=of, rate=share, low=low, high=high)


@dataclass(slots=True)
class Proofs:
    """Readings that verify themselves, on one side."""

    valid: int = 0
    checked: int = 0
    frames: int = 0
    passages: int = 0

    def count(self, readings: tuple[Reading, ...]) -> None:
        self.valid += sum(r.valid is True for r in readings)
        self.checked += sum(r.valid is not None for r in readings)
        self.frames += any(r.valid is True for r in readings)


@dataclass(frozen=True, slots=True)
class _Ended:
    """What a passage says on both sides, as far as it was seen: label and whether it verifies itself."""

    actual: tuple[str | None, bool | None]
    other: tuple[str | None, bool | None]


class Tally:
    """Counts frames as they come.

    Args:
        cases: How many of the worst frames to keep.
    """

    def __init__(self, *, cases: int) -> None:
        self.frames = 0
        self.agreeing = 0
        self.problems: Counter[str] = Counter()
        self.kinds: Counter[Kind] = Counter()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.actual, self.other = Proofs(), Proofs()
        self.passages = self.passages_agreeing = 0
        self.alerts_on_both = 0
        self._alerts: dict[str, tuple[str, AlertRaised]] = {}
        self._open: OrderedDict[tuple[str, str], _Ended] = OrderedDict()
        self._cases_kept = cases
        self._cases: list[tuple[float, int, FrameCompared]] = []

    def count(self, frame: FrameCompared) -> None:
        if frame.actual is None or frame.other is None:
            self.problems[frame.problem] += 1
            if len(self.problems) > _ALERTS_LISTED:
                del self.problems[min(self.problems, key=lambda p: self.problems[p])]
                self.problems["others"] += 1
            return
        self.frames += 1
        self.agreeing += _agree(frame.actual, frame.other, frame)
        self.kinds.update(c.kind for c in frame.changes)
        self.outcomes[frame.actual.result.outcome, frame.other.result.outcome] += 1
        self.actual.count(frame.actual.result.readings)
        self.other.count(frame.other.result.readings)
        self._count_alerts("lost", frame.actual)
        self._count_alerts("gained", frame.other)
        self._count_passage(frame.actual, frame.other)
        self._keep_case(frame)

    def finish(self) -> None:
        """Count the passages that are still open."""
        for ended in self._open.values():
            self._end(ended)
        self._open.clear()

    @property
    def worst(self) -> tuple[FrameCompared, ...]:
        """Frames that got worst, the worst first; frames that only got better come last."""
        return tuple(frame for _, _, frame in sorted(self._cases, key=lambda case: (-case[0], -case[1])))

    def alerts(self, which: str) -> tuple[AlertRaised, ...]:
        """Alerts on one side only: "gained" or "lost"; at most 200."""
        return tuple(alert for side, alert in self._alerts.values() if side == which)[:_ALERTS_LISTED]

    def as_plain(self) -> dict[str, Any]:
        sides = {"recorded": self.actual, "whatif": self.other}
        return {
            "frames": self.frames,
            "frames_not_read": sum(self.problems.values()),
            "not_read": dict(self.problems.most_common()),
            "agreement": {
                "frames": _plain(wilson(self.agreeing, self.frames)),
                "passages": _plain(wilson(self.passages_agreeing, self.passages)),
            },
            "readings": {kind.value: self.kinds[kind] for kind in Kind},
            "proofs": {
                name: {
                    "readings": _plain(wilson(proofs.valid, proofs.checked)),
                    "frames": _plain(wilson(proofs.frames, self.frames)),
                    "passages": _plain(wilson(proofs.passages, self.passages)),
                }
                for name, proofs in sides.items()
            },
            "outcomes": [{"recorded": a, "whatif": o, "frames": n} for (a, o), n in sorted(self.outcomes.items())],
            "alerts": {
                "both": self.alerts_on_both,
                "gained": sum(side == "gained" for side, _ in self._alerts.values()),
                "lost": sum(side == "lost" for side, _ in self._alerts.values()),
            },
        }

    def _count_alerts(self, which: str, side: Side) -> None:
        for event in side.derived:
            if isinstance(event, AlertRaised):
                known = self._alerts.get(event.alert_id)
                if known is not None and known[0] != which:
                    del self._alerts[event.alert_id]
                    self.alerts_on_both += 1
                else:
                    self._alerts[event.alert_id] = (which, event)

    def _count_passage(self, actual: Side, other: Side) -> None:
        said, would = actual.result.conclusion, other.result.conclusion
        if said is None or would is None:
            return
        key = (str(actual.result.frame.device_id), said.passage_id)
        self._open[key] = _Ended((said.label, said.valid), (would.label, would.valid))
        self._open.move_to_end(key)
        if len(self._open) > _PASSAGES_OPEN:
            self._end(self._open.popitem(last=False)[1])

    def _end(self, ended: _Ended) -> None:
        self.passages += 1
        self.passages_agreeing += ended.actual == ended.other
        self.actual.passages += ended.actual[1] is True
        self.other.passages += ended.other[1] is True

    def _keep_case(self, frame: FrameCompared) -> None:
        score = badness(frame)
        if score is None or not self._cases_kept:
            return
        # The counter keeps the order of frames that are equally bad, the older one first.
        heapq.heappush(self._cases, (score, -self.frames, frame))
        if len(self._cases) > self._cases_kept:
            heapq.heappop(self._cases)


def _agree(actual: Side, other: Side, frame: FrameCompared) -> bool:
    """Whether both sides say the same; a failure says something else than finding nothing."""
    same_outcome = actual.result.outcome == other.result.outcome
    return same_outcome and all(c.kind in (Kind.SAME, Kind.MOVED) for c in frame.changes)


def badness(frame: FrameCompared) -> float | None:
    """How much worse a frame got, for sorting; None when nothing changed, negative when it only got better.

    Losing a reading that verifies itself weighs most, then a failure that was none, then any other loss or change.
    """
    if frame.actual is None or frame.other is None:
        return None
    failed = int(frame.other.result.outcome == "failed") - int(frame.actual.result.outcome == "failed")
    touched = [c for c in frame.changes if c.kind is not Kind.SAME]
    if not touched and not failed:
        return None
    valid = sum(r.valid is True for r in frame.actual.result.readings) - sum(r.valid is True for r in frame.other.result.readings)
    weights = {Kind.LOST: 1.0, Kind.CHANGED: 1.0, Kind.MOVED: 0.25, Kind.GAINED: 0.1, Kind.SAME: 0.0}
    return 10.0 * valid + 5.0 * failed + sum(weights[c.kind] for c in touched)


def _plain(rate: Rate) -> dict[str, Any]:
    return {"count": rate.count, "of": rate.of, "rate": rate.rate, "low": rate.low, "high": rate.high}
