"""A made gate for `rollout_rates`: cameras that see passages of frames, which one arm of a rollout reads, or both.

Planted candidates differ from the incumbent in one way each. A run is seeded by the case's name and a number, so that any one
can be made again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from processors.rollout import Arm, Sample

CAMERAS = 4
FRAMES_OF_PASSAGE = (3, 10)
ALIKENESS = 0.6
"""Correlation of two frames of one passage, where frames of a passage are alike."""
_OUTAGE_CHANCE, _OUTAGE_BATCHES, _OUTAGE_ERROR = 1 / 400, (20, 80), 0.7
_FULL_FRAME_READINGS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What an arm is like: shares of frames or readings, but `slower`, which is times the latency."""

    valid: float = 0.95
    error: float = 0.0
    reads: float = 0.9
    confidence: float = 0.9
    slower: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A planted candidate.

    `share` is of passages that it reads in a canary, None for a shadow. `alike`: frames of a passage are. `outages`: now and
    then the server fails most frames of both arms for a while.
    """

    name: str
    candidate: Traits
    share: float | None
    alike: bool
    outages: bool = False
    incumbent: Traits = field(default=Traits())


PLANTED: dict[str, Traits] = {
    "equal": Traits(),
    "better": Traits(valid=0.98, confidence=0.93),
    "valid 0.95 to 0.90": Traits(valid=0.90),
    "valid 0.95 to 0.80": Traits(valid=0.80),
    "reads 0.90 to 0.75": Traits(reads=0.75),
    "confidence 0.90 to 0.80": Traits(confidence=0.8),
    "latency 1.5 times": Traits(slower=1.5),
    "errors 0 to 0.3": Traits(error=0.3),
    "errors 0 to 1": Traits(error=1.0),
}
WAYS: dict[str, float | None] = {"shadow": None, "canary 10 %": 0.1, "canary 50 %": 0.5}


def cases(share: float | None) -> list[Case]:
    """All that the page reports of one way to roll out."""
    planted = [Case(name=n, candidate=t, share=share, alike=alike) for n, t in PLANTED.items() for alike in (False, True)]
    if share != WAYS["canary 10 %"]:  # there these two take ten times as long as all the others
        planted.append(Case(name="equal, with outages", candidate=Traits(), share=share, alike=True, outages=True))
        planted.append(Case(name="valid 0.95 to 0.92, the margin", candidate=Traits(valid=0.92), share=share, alike=True))
    return planted


def samples(case: Case, seed: int) -> Iterator[list[Sample]]:
    """Batches without end: in each, every camera has one frame."""
    chance = Random(f"{case.name} {case.share} {case.alike} {seed}")
    cameras = [_camera(case, chance, number) for number in range(CAMERAS)]
    out_for = 0
    while True:
        batch = [sample for camera in cameras for sample in next(camera)]
        if case.outages and not out_for and chance.random() < _OUTAGE_CHANCE:
            out_for = chance.randint(*_OUTAGE_BATCHES)
        if out_for:
            out_for -= 1
            batch = [_failed(each) if chance.random() < _OUTAGE_ERROR else each for each in batch]
        yield batch


def _camera(case: Case, chance: Random, number: int) -> Iterator[list[Sample]]:
    passage = 0
    while True:
        passage += 1
        arms: Sequence[Arm] = ("incumbent", "candidate")
        if case.share is not None:
            arms = ("candidate",) if chance.random() < case.share else ("incumbent",)
        luck = _Luck.drawn(chance, case.alike)
        shared = chance.random() < 0.5
        by_arm = {arm: luck if shared else _Luck.drawn(chance, case.alike) for arm in arms}
        for _ in range(chance.randint(*FRAMES_OF_PASSAGE)):
            yield [_sample(chance, arm, f"camera-{number}/{passage}", getattr(case, arm), by_arm[arm]) for arm in arms]


@dataclass(frozen=True, slots=True)
class _Luck:
    """What frames of a passage have in common, each 0 to 1: how hard it is to read, to find, how busy the server is."""

    alike: bool
    hard: float
    hidden: float
    dim: float
    busy: float
    broken: float

    @classmethod
    def drawn(cls, chance: Random, alike: bool) -> "_Luck":
        return cls(alike, *(chance.random() for _ in range(5)))

    def happens(self, chance: Random, share: float, luck: float) -> bool:
        """With that share over all; within a passage the same again and again, as often as ALIKENESS says."""
        return (luck if self.alike and chance.random() < ALIKENESS**0.5 else chance.random()) < share


def _failed(sample: Sample) -> Sample:
    return Sample(arm=sample.arm, unit=sample.unit, error=1.0)


def _sample(chance: Random, arm: Arm, unit: str, traits: Traits, luck: _Luck) -> Sample:
    latency_ms = (
        30.0 * traits.slower * chance.lognormvariate(0.0, 0.15) * (0.8 + 0.4 * (luck.busy if luck.alike else chance.random()))
    )
    if luck.happens(chance, traits.error, luck.broken):
        return Sample(arm=arm, unit=unit, error=1.0)
    reads = sum(luck.happens(chance, traits.reads, luck.hidden) for _ in range(_FULL_FRAME_READINGS))
    dim = luck.dim if luck.alike else chance.random()
    confidence = min(1.0, max(0.0, traits.confidence + 0.2 * (dim - 0.5) + chance.gauss(0.0, 0.05)))
    valid = float(luck.happens(chance, traits.valid, luck.hard)) if reads else None
    return Sample(
        arm=arm,
        unit=unit,
        error=0.0,
        readings=reads,
        valid=valid,
        confidence=confidence if reads else None,
        latency_ms=latency_ms,
    )
