"""What two answers about one frame differ in: every output, and every step's own digest. Pure.

Guarantees: bit-exact means that everything that was recorded of the answer is equal, and each step's outputs bit for
bit; nothing is rounded before it is compared.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from schemas.events import InferenceCompleted
from schemas.types import Candidate, Observation

TOLERANCES: Mapping[str, float] = MappingProxyType(
    {
        "confidence": 1e-3,
        "detection_score": 1e-3,
        "polygon_px": 0.5,
        "measures.*_px": 1.0,
        "measures.*": 1e-3,
    }
)
"""How far an output may be from the recorded one and still count as the same answer. What is not a number (labels,
counts, reasons) has no tolerance."""


class Verdict(enum.StrEnum):
    """How a second reading agrees with the recorded one, the best first."""

    BIT_EXACT = "bit-exact"
    WITHIN_TOLERANCE = "within tolerance"
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One output that differs. `by` is how much, for numbers; `tolerance` the entry of TOLERANCES that holds."""

    output: str
    recorded: str
    again: str
    by: float | None = None
    tolerance: float | None = None

    @property
    def is_tolerated(self) -> bool:
        return self.by is not None and self.tolerance is not None and self.by <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCompared:
    """One step's outputs, by digest; `equal` is None when one side did not report a digest."""

    step: str
    variant: str
    equal: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two answers side by side."""

    verdict: Verdict
    differences: tuple[Difference, ...]
    steps: tuple[StepCompared, ...]

    @property
    def first_different_step(self) -> str | None:
        """Where the two began to differ."""
        return next((s.step for s in self.steps if s.equal is False), None)


def compare(recorded: InferenceCompleted, again: InferenceCompleted) -> Compared:
    """Hold a second answer against the recorded one."""
    steps = tuple(compare_steps(recorded, again))
    differences = tuple(_answers(recorded, again))
    if not all(d.is_tolerated for d in differences):
        verdict = Verdict.DIVERGED
    elif differences or any(s.equal is False for s in steps):
        verdict = Verdict.WITHIN_TOLERANCE
    else:
        verdict = Verdict.BIT_EXACT
    return Compared(verdict=verdict, differences=differences, steps=steps)


def compare_steps(recorded: InferenceCompleted, again: InferenceCompleted) -> Iterator[StepCompared]:
    """Each step that either answer reports, in the order of the recorded one."""
    others = {s.step: s for s in again.steps}
    names = {s.step for s in recorded.steps}
    for step in recorded.steps:
        other = others.get(step.step)
        known = other is not None and None not in (step.output_sha256, other.output_sha256)
        equal = step.output_sha256 == other.output_sha256 if known and other is not None else None
        yield StepCompared(step=step.step, variant=step.variant, equal=equal)
    for step in again.steps:
        if step.step not in names:
            yield StepCompared(step=step.step, variant=step.variant, equal=None)


def _answers(recorded: InferenceCompleted, again: InferenceCompleted) -> Iterator[Difference]:
    yield from _same("width_px", recorded.width_px, again.width_px)
    yield from _same("height_px", recorded.height_px, again.height_px)
    yield from _same("observations", len(recorded.observations), len(again.observations))
    yield from _same("candidates", len(recorded.candidates), len(again.candidates))
    for index, (o, other) in enumerate(zip(recorded.observations, again.observations, strict=False)):
        yield from _found(f"observations[{index}]", o, other)
        yield from _measures(f"observations[{index}].measures", o.measures, other.measures)
    for index, (c, another) in enumerate(zip(recorded.candidates, again.candidates, strict=False)):
        yield from _same(f"candidates[{index}].stage", c.stage, another.stage)
        yield from _same(f"candidates[{index}].reason", c.reason, another.reason)
        yield from _found(f"candidates[{index}]", c, another)


def _found(path: str, one: Observation | Candidate, other: Observation | Candidate) -> Iterator[Difference]:
    yield from _same(f"{path}.kind", one.kind, other.kind)
    yield from _same(f"{path}.label", one.label, other.label)
    yield from _near(f"{path}.confidence", "confidence", [one.confidence], [other.confidence])
    yield from _near(f"{path}.detection_score", "detection_score", [one.detection_score], [other.detection_score])
    yield from _near(f"{path}.polygon_px", "polygon_px", one.polygon_px, other.polygon_px)


def _measures(path: str, one: Mapping[str, float], other: Mapping[str, float]) -> Iterator[Difference]:
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            yield from _same(f"{path}.{name}", one.get(name), other.get(name))
        else:
            kind = "measures.*_px" if name.endswith("_px") else "measures.*"
            yield from _near(f"{path}.{name}", kind, [one[name]], [other[name]])


def _same(path: str, one: object, other: object) -> Iterator[Difference]:
    if one != other:
        yield Difference(output=path, recorded=str(one), again=str(other))


def _near(path: str, kind: str, one: Iterable[float], other: Iterable[float]) -> Iterator[Difference]:
    ours, theirs = tuple(one), tuple(other)
    if ours == theirs:
        return
    said = (_numbers(ours), _numbers(theirs))
    if len(ours) != len(theirs):
        yield Difference(output=path, recorded=said[0], again=said[1])
        return
    by = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    yield Difference(output=path, recorded=said[0], again=said[1], by=by, tolerance=TOLERANCES[kind])


def _numbers(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{n:.9g}" for n in numbers)
