"""One reading of a frame in numbers, by the pipeline's own rules. Pure; the names are those that `judging` compares.

| measure | what it is |
|---|---|
| `error` | 1 when the first try of the frame failed, otherwise 0: a release on trial has but one |
| `readings` | how many readings the rules found |
| `confidence` | their mean confidence, 0 to 1; left out when there are none |
| `valid` | 1 when what the frame votes for verifies itself, 0 when it proves wrong; left out when nothing proves it |
| `latency_ms` | time of the call that answered |
| `disagrees` | of a shadow: 1 when the two sides read the frame differently, otherwise 0 |
"""

from collections.abc import Mapping

from processors.rules.contract import Rules
from processors.whatif.match import Kind, changes
from schemas.events import InferenceCompleted, InferenceFailed

ERROR: Mapping[str, float] = {"error": 1.0}


def measures_of(rules: Rules, read: InferenceCompleted | InferenceFailed) -> Mapping[str, float]:
    """The numbers of one reading; of one that failed, that it did."""
    if isinstance(read, InferenceFailed):
        return ERROR
    readings = rules.read(read.observations)
    found = {"error": float(read.attempts > 1), "readings": float(len(readings)), "latency_ms": read.duration_us / 1000}
    if readings:
        found["confidence"] = sum(r.confidence for r in readings) / len(readings)
    ballot = rules.ballot(readings)
    if ballot is not None and ballot.valid is not None:
        found["valid"] = float(ballot.valid)
    return found


def disagreement(rules: Rules, read: InferenceCompleted, beside: InferenceCompleted | InferenceFailed) -> Mapping[str, float]:
    """Whether two readings of one frame say different things; where they stand in the frame does not count."""
    if isinstance(beside, InferenceFailed):
        return {"disagrees": 1.0}
    told = changes(rules.read(beside.observations), rules.read(read.observations))
    return {"disagrees": float(any(c.kind not in (Kind.SAME, Kind.MOVED) for c in told))}
