"""A year of release changes, seeded: what lies on the log, and by plain variables who read at each moment.

The events come from the decider; the expectation does not: it is kept beside, change by change, and searched from the start.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from processors.release import core
from processors.step import Cause
from schemas import ids
from schemas.catalogue import RELEASES
from schemas.codec import Schemas, encode
from schemas.envelope import envelope_of, to_headers
from schemas.events import (
    AbortRollout,
    ChangeThreshold,
    PromoteRelease,
    RegisterRelease,
    ReportReleaseLoaded,
    ReportVerdict,
    RollBackRelease,
    StartCanary,
    StartShadow,
)
from schemas.types import EventId, ReleaseStep, SourcePosition
from streams.records import Outgoing

PIPELINE, OTHER = "gate", "yard"
START_US = 1_750_000_000_000_000
YEAR_US = 365 * 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One record of vision.releases and the moment at which it is appended."""

    at_us: int
    outgoing: Outgoing


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Who reads from a moment on."""

    at_us: int
    release: str | None
    digest: str | None
    threshold: float | None
    on_trial: tuple[str, float] | None


class Year:
    """Changes of one pipeline's releases, spread over a year, with another pipeline's in between and some crashes.

    Args:
        changes: How many of them change who reads, or with what.
    """

    def __init__(self, seed: int, changes: int, schemas: Schemas) -> None:
        self._random = random.Random(seed)
        self._schemas = schemas
        self._states = {PIPELINE: core.INITIAL, OTHER: core.INITIAL}
        self._command = 0
        self._registered = 0
        self._release: str | None = None
        self._before: list[str] = []
        self._threshold: float | None = None
        self._trial: tuple[str, float] | None = None
        self.said: list[Said] = []
        self.expected: list[Expected] = [
            Expected(at_us=0, release=None, digest=None, threshold=None, on_trial=None),
        ]
        for number in range(changes):
            self._now_us = START_US + (number + 1) * (YEAR_US // (changes + 1)) + self._random.randrange(10**9)
            self._change()
            self._note()

    def at(self, at_us: int) -> Expected:
        """By brute force: the last change up to a moment, to the broker's millisecond."""
        known = self.expected[0]
        for one in self.expected:
            if one.at_us // 1000 <= at_us // 1000:
                known = one
        return known

    def _note(self) -> None:
        threshold = self._threshold if self._threshold is not None else (0.5 if self._release is not None else None)
        digest = f"{self._release}-digest" if self._release is not None else None
        self.expected.append(
            Expected(at_us=self._now_us, release=self._release, digest=digest, threshold=threshold, on_trial=self._trial)
        )

    def _change(self) -> None:
        """One change, whatever makes sense now; a trial's release is always a new one."""
        options = ["promote", "promote"]
        if self._release is not None:
            options += ["threshold", "trial", "trial"] if self._trial is None else ["threshold", "end", "advance"]
            options += ["back"] if self._before else []
        match self._random.choice(options):
            case "promote":
                self._end_trial()
                self._promote(self._register())
            case "back":
                self._tell(RollBackRelease(**self._asked()))
                self._loaded(self._before[0])
                self._release, self._trial = self._before.pop(0), None
            case "threshold":
                self._threshold = round(self._random.uniform(0.1, 0.9), 3)
                self._tell(ChangeThreshold(**self._asked(), name="text_confidence", value=self._threshold))
            case "trial":
                self._begin_trial()
            case "advance":
                self._tell(self._verdict("successful"))
                assert self._trial is not None
                self._trial = (self._trial[0], 25.0) if self._trial[1] == 5.0 else self._trial
            case "end":
                self._end_trial()
        if self._random.random() < 0.1:
            self._crash()

    def _begin_trial(self) -> None:
        release = self._register()
        self._loaded(release)
        if self._random.random() < 0.3:
            self._tell(StartShadow(**self._asked(), release=release))
            self._trial = (release, 0.0)
        else:
            self._tell(StartCanary(**self._asked(), release=release, steps_percent=(5.0, 25.0), unit="device"))
            self._trial = (release, 5.0)

    def _end_trial(self) -> None:
        if self._trial is not None:
            self._tell(self._verdict("failed") if self._random.random() < 0.5 else AbortRollout(**self._asked()))
            self._trial = None

    def _promote(self, release: str) -> None:
        self._tell(PromoteRelease(**self._asked(), release=release))
        self._loaded(release)
        if self._release is not None:
            self._before = [self._release, *self._before][:8]
        self._release = release

    def _register(self) -> str:
        self._registered += 1
        release = f"r{self._registered}"
        steps = (ReleaseStep(step="detection", model="detection", version=self._registered, digest=f"{release}-digest"),)
        for pipeline in (PIPELINE, OTHER):
            asked = {**self._asked(), "pipeline": pipeline}
            self._tell(RegisterRelease(**asked, release=release, steps=steps, parameters={"text_confidence": 0.5}))
        other = {**self._asked(), "pipeline": OTHER}
        self._tell(PromoteRelease(**other, release=release))
        self._loaded(release, OTHER)
        return release

    def _loaded(self, release: str, pipeline: str = PIPELINE) -> None:
        asked = {k: v for k, v in self._asked().items() if k not in ("issued_by", "reason")} | {"pipeline": pipeline}
        self._tell(ReportReleaseLoaded(**asked, release=release, endpoint=f"t{self._command}:1", duration_us=1))

    def _verdict(self, verdict: str) -> ReportVerdict:
        rollout = self._states[PIPELINE].rollout
        assert rollout is not None
        asked = {k: v for k, v in self._asked().items() if k not in ("issued_by", "reason")}
        return ReportVerdict(
            **asked, rollout_id=rollout.rollout_id, stage=rollout.stage, verdict=verdict, deciding="valid", measures={}
        )

    def _asked(self) -> dict[str, Any]:
        return {
            "command_id": EventId(ids.named_id("command", str(self._command))),
            "pipeline": PIPELINE,
            "issued_by": "somebody",
            "reason": "",
            "issued_at_us": self._now_us,
        }

    def _tell(self, command: Any) -> None:
        """A command decided, and what follows appended, all at the same moment."""
        position = SourcePosition(topic="vision.commands", partition=0, offset=self._command, index=0)
        self._command += 1
        cause = Cause(position=position, event_id="", correlation_id="c", traceparent="", now_us=self._now_us)
        state = self._states[command.pipeline]
        for event in core.decide(state, command, cause):
            assert type(event).__name__ != "CommandRefused", event
            self._states[command.pipeline] = state = core.fold(state, event)
            self.said.append(Said(at_us=self._now_us, outgoing=self._record(event)))

    def _record(self, event: Any) -> Outgoing:
        envelope = envelope_of(event, source="hindsight/release", time_us=self._now_us, correlation_id="c", causation_id="b")
        return Outgoing(
            topic=RELEASES,
            key=event.pipeline.encode(),
            value=encode(event, self._schemas),
            headers=to_headers(envelope),
            partition=0,
        )

    def _crash(self) -> None:
        """What was appended last is appended again, a while later."""
        again = self.said[-self._random.randrange(1, 9) :]
        self.said += [replace(one, at_us=self._now_us + 5_000) for one in again]


def moments(seed: int, count: int) -> Iterator[int]:
    """Random moments of the year, and a little before it."""
    rng = random.Random(seed)
    for _ in range(count):
        yield START_US + rng.randrange(-YEAR_US // 50, YEAR_US + 10**10)
