"""Why two answers differ: the fingerprints of what computed them, side by side, and what was proved by varying it. Pure."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.events import InferenceCompleted

THREADS, BATCH, SERVER, REPEAT, PREPROCESSING = "threads", "batch_form", "triton", "repeat", "preprocessing"
NOT_NAMED = "not recorded"


class Proof(enum.StrEnum):
    """What is known of a factor's part in a difference."""

    PROVED = "proved: changing only this changes the outputs"
    UNPROVED = "not proved: outputs change with it, and from one run to the next without it, too"
    EXCLUDED = "excluded: changing only this changes nothing"
    SUSPECTED = "suspected: it differs, and cannot be varied here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """Something that computed otherwise than when the answer was recorded."""

    name: str
    recorded: str
    present: str
    proof: Proof
    step: str | None = None  # the first one whose outputs it changes


def fingerprint(event: InferenceCompleted) -> Mapping[str, str]:
    """What computed an answer: its runtime, and the digest of each step's files; the first step is the preprocessing."""
    found = dict(event.runtime)
    for number, step in enumerate(event.steps):
        name = PREPROCESSING if number == 0 else f"model of {step.step}"
        found[name] = step.digest or NOT_NAMED
        found[f"variant of {step.step}"] = step.variant
    return found


def differing(recorded: Mapping[str, str], present: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Name, recorded value and present value of everything in which two fingerprints differ, by name."""
    names = sorted(n for n in recorded.keys() | present.keys() if recorded.get(n) != present.get(n))
    return tuple((n, recorded.get(n, NOT_NAMED), present.get(n, NOT_NAMED)) for n in names)


def recorded_threads(event: InferenceCompleted) -> int | None:
    """Threads of one call when the answer was recorded; None when they were not recorded, or differ between steps."""
    text = event.runtime.get(THREADS, "")
    return int(text) if text.isdecimal() and int(text) > 0 else None


def was_batched(event: InferenceCompleted) -> bool:
    """Whether a network of the recorded answer took several crops in one call."""
    return event.runtime.get(BATCH, "single") != "single"
