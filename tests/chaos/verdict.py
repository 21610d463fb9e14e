"""What must hold after every fault: pure, from what the edges were told, what lies on the log, and what the views show.

The log is counted here by ids alone, with none of the engine's own ways to tell a repeat: an event that was written twice
has one id, so a frame's outcomes are its distinct ids. The views are then held against that count, and not only against
their own fold of the log. `run.py` gathers and asks; each claim is proved by planting what it must find (`test_verdict.py`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.events import FrameAccepted, FrameCaptured, FrameRejected, ResultDerived
from schemas.types import FrameId

_NAMED = 20
_REPEATED = "repeated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One outcome of a frame as the log has it; `event_id` tells it from its own repeats."""

    event_id: str
    outcome: str
    appended_at_ms: int


@dataclass(slots=True, kw_only=True)
class Logged:
    """What the log says of each frame, by ids. `written` counts records, repeats included."""

    captured: set[FrameId] = field(default_factory=set)
    accepted: dict[FrameId, set[str]] = field(default_factory=dict)
    outcomes: dict[FrameId, dict[str, Outcome]] = field(default_factory=dict)
    devices: dict[FrameId, str] = field(default_factory=dict)
    written: Counter[str] = field(default_factory=Counter)

    def note(self, event: Any, appended_at_ms: int) -> None:
        """Count one event of vision.frames, vision.assessments or vision.results, in the order of each partition."""
        match event:
            case FrameCaptured():
                self.written["captured"] += 1
                self.captured.add(event.frame.frame_id)
            case FrameAccepted():
                self.written["accepted"] += 1
                self.accepted.setdefault(event.frame.frame_id, set()).add(event.event_id)
            case FrameRejected() if _REPEATED in event.reasons:
                self.written["repeated"] += 1
            case FrameRejected():
                self.written["rejected"] += 1
                self._outcome(event, f"rejected: {', '.join(event.reasons)}", appended_at_ms)
            case ResultDerived() if event.supersedes is None:
                self.written["results"] += 1
                self._outcome(event, event.outcome, appended_at_ms)
            case _:
                return

    def _outcome(self, event: FrameRejected | ResultDerived, outcome: str, appended_at_ms: int) -> None:
        self.devices[event.frame.frame_id] = event.frame.device_id
        found = self.outcomes.setdefault(event.frame.frame_id, {})
        found.setdefault(event.event_id, Outcome(event_id=event.event_id, outcome=outcome, appended_at_ms=appended_at_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the views show, as plain values; `different` names each view that is not the fold of its log."""

    results: Mapping[FrameId, int]
    outcomes_of_device: Mapping[str, int]
    different: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A claim that does not hold, and the frames that show it."""

    claim: str
    words: str
    frames: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = f" and {len(self.frames) - _NAMED} more" if len(self.frames) > _NAMED else ""
        return f"{self.claim}: {self.words}" + (f": {', '.join(self.frames[:_NAMED])}{more}" if self.frames else "")


def judge(acknowledged: Iterable[FrameId], logged: Logged, shown: Shown) -> tuple[Violation, ...]:
    """Every claim about frames that was broken, when all that was sent has come to rest."""
    promised = set(acknowledged)
    return (*_lost(promised, logged), *_doubled(logged), *_not_read(promised, logged), *_views(logged, shown))


def late(waits_s: Mapping[FrameId, float], bound_s: float) -> tuple[Violation, ...]:
    """Frames that waited longer from acknowledgement to result than was stated."""
    found = sorted((f for f, wait_s in waits_s.items() if wait_s > bound_s), key=lambda f: -waits_s[f])
    if not found:
        return ()
    return (Violation(claim="nobody waits longer", words=f"{waits_s[found[0]]:.1f} s of {bound_s:g} s", frames=tuple(found)),)


def swollen(peak_bytes: Mapping[str, int], bound_bytes: Mapping[str, int]) -> tuple[Violation, ...]:
    """Processes whose memory went beyond what is stated for their kind (their name up to the first dash)."""
    return tuple(
        Violation(
            claim="memory stays bounded",
            words=f"{name} had {peak / 2**20:.0f} MiB, and {_bound(name, bound_bytes) / 2**20:.0f} may be",
        )
        for name, peak in sorted(peak_bytes.items())
        if peak > _bound(name, bound_bytes)
    )


def waits_s(acknowledged_at_us: Mapping[FrameId, int], logged: Logged) -> dict[FrameId, float]:
    """Seconds from acknowledgement to outcome; 0 where the outcome was there first. Frames without one are left out."""
    return {
        frame: max(0.0, min(o.appended_at_ms for o in outcomes.values()) / 1e3 - acknowledged_at_us[frame] / 1e6)
        for frame, outcomes in logged.outcomes.items()
        if frame in acknowledged_at_us
    }


def _lost(promised: set[FrameId], logged: Logged) -> Iterator[Violation]:
    if gone := sorted(promised - logged.captured):
        yield Violation(claim="acknowledged is on the log", words=f"{len(gone)} frames are not", frames=tuple(gone))
    if without := sorted((promised & logged.captured) - logged.outcomes.keys()):
        yield Violation(claim="exactly one outcome", words=f"{len(without)} frames have none", frames=tuple(without))


def _doubled(logged: Logged) -> Iterator[Violation]:
    if twice := sorted(f for f, found in logged.outcomes.items() if len(found) > 1):
        yield Violation(claim="exactly one outcome", words=f"{len(twice)} frames have several", frames=tuple(twice))
    if accepted := sorted(f for f, found in logged.accepted.items() if len(found) > 1):
        yield Violation(claim="no frame is doubled", words=f"{len(accepted)} were accepted twice", frames=tuple(accepted))
    if strange := sorted(logged.outcomes.keys() - logged.captured):
        yield Violation(claim="no frame is made up", words=f"{len(strange)} outcomes of no frame", frames=tuple(strange))


def _not_read(promised: set[FrameId], logged: Logged) -> Iterator[Violation]:
    """A fault may cost time and no reading: all that is sent can be read."""
    bad = {
        frame: outcome.outcome
        for frame in promised & logged.outcomes.keys()
        for outcome in logged.outcomes[frame].values()
        if outcome.outcome not in ("read", "nothing_read")
    }
    for outcome in sorted(set(bad.values())):
        frames = tuple(sorted(f for f, o in bad.items() if o == outcome))
        yield Violation(claim="no frame is given up", words=f"{len(frames)} are {outcome}", frames=frames)


def _views(logged: Logged, shown: Shown) -> Iterator[Violation]:
    derived = {f for f, found in logged.outcomes.items() if any(not o.outcome.startswith("rejected") for o in found.values())}
    if differ := sorted(f for f in derived | shown.results.keys() if shown.results.get(f, 0) != (f in derived)):
        counts = Counter(shown.results.get(f, 0) for f in differ)
        words = f"results_by_frame counts {dict(counts)} for {len(differ)} frames"
        yield Violation(claim="each outcome is counted once", words=words, frames=tuple(differ))
    wanted = Counter(logged.devices[f] for f in derived)
    for device in sorted(wanted.keys() | shown.outcomes_of_device.keys()):
        if wanted[device] != shown.outcomes_of_device.get(device, 0):
            words = (
                f"device_results counts {shown.outcomes_of_device.get(device, 0)} of {device}, and the log has {wanted[device]}"
            )
            yield Violation(claim="each outcome is counted once", words=words)
    for words in shown.different:
        yield Violation(claim="views equal the log", words=words)
    for words in shown.alarms:
        yield Violation(claim="views equal the log", words=f"a worker found and told: {words}")


def _bound(name: str, bound_bytes: Mapping[str, int]) -> int:
    return bound_bytes[name.partition("-")[0]]
