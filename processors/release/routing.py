"""Which release reads a frame, by the state of the releases: the one in force, or the one on trial for a canary's share.

Guarantees: the same unit (a passage, or a device) is on the same side for as long as a stage runs, and a unit on the
candidate's side stays there in later stages. A passage that has begun stays on its side also when a trial or a stage begins,
as long as this process lives. When a trial ends, the release in force reads what is left of the candidate's passages.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from processors.release.state import CANARY, PipelineReleases, Rollout
from schemas.types import FrameRef, RolloutArm

INCUMBENT, CANDIDATE = "incumbent", "candidate"
_PASSAGES_KEPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The release that reads a frame, with what it reads with; `rollout` says on which side of a trial the frame is."""

    release: str | None
    parameters: Mapping[str, float]
    pins: Mapping[str, str]
    rollout: RolloutArm | None
    steps_by_model: Mapping[str, str]


class Assigning:
    """Assigns frames, and remembers on which side of which trial a passage began; of no trial, too."""

    def __init__(self) -> None:
        self._began: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def assigned(self, state: PipelineReleases, frame: FrameRef) -> Assignment:
        """Who reads this frame."""
        rollout = state.rollout
        if rollout is None or state.in_force is None:
            self._remember(frame, "", INCUMBENT)
            return _reads(state, state.in_force, None)
        side = self._side(rollout, frame) if rollout.kind == CANARY else INCUMBENT
        side = self._remember(frame, rollout.rollout_id, side)
        return _reads(state, rollout.release if side == CANDIDATE else state.in_force, arm_of(rollout, side))

    def _side(self, rollout: Rollout, frame: FrameRef) -> str:
        by_passage = rollout.unit == "passage" and frame.passage_id is not None
        if by_passage and (began := self._began.get(_passage(frame))) is not None:
            # One that began before this trial goes on as it began: read by the release in force.
            return began[1] if began[0] == rollout.rollout_id else INCUMBENT
        return CANDIDATE if share_of(rollout.rollout_id, unit_of(rollout, frame)) < rollout.percent else INCUMBENT

    def _remember(self, frame: FrameRef, rollout_id: str, side: str) -> str:
        if frame.passage_id is not None:
            name = _passage(frame)
            if self._began.setdefault(name, (rollout_id, side))[0] == "" and rollout_id == "":
                self._began.move_to_end(name)
            if len(self._began) > _PASSAGES_KEPT:
                self._began.popitem(last=False)
        return side


def _passage(frame: FrameRef) -> str:
    return f"{frame.device_id}/{frame.passage_id}"


def reads_instead(state: PipelineReleases) -> Assignment:
    """Who reads a frame when the candidate could not: the release in force. It counts for neither side."""
    return _reads(state, state.in_force, None)


def reads_beside(state: PipelineReleases, rollout: Rollout) -> Assignment:
    """What a shadow's candidate reads with."""
    return _reads(state, rollout.release, arm_of(rollout, CANDIDATE))


def arm_of(rollout: Rollout, side: str) -> RolloutArm:
    return RolloutArm(rollout_id=rollout.rollout_id, kind=rollout.kind, stage=rollout.stage, arm=side)


def unit_of(rollout: Rollout, frame: FrameRef) -> str:
    """What is assigned as a whole: the frame's passage, or its device where it has none or the canary goes by devices."""
    by_passage = rollout.unit == "passage" and frame.passage_id is not None
    return _passage(frame) if by_passage else str(frame.device_id)


def share_of(rollout_id: str, unit: str) -> float:
    """Where a unit lies between 0 and 100; another trial mixes anew."""
    digest = hashlib.sha256(f"{rollout_id}\0{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100.0


def _reads(state: PipelineReleases, release: str | None, rollout: RolloutArm | None) -> Assignment:
    return Assignment(
        release=release,
        parameters=state.thresholds(release),
        pins=state.pins(release),
        rollout=rollout,
        steps_by_model=state.steps_by_model(release),
    )
