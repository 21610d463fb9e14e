"""The folds behind the views. Pure, and total over their topic: an event that a view does not count leaves it as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.events import (
    AlertCleared,
    AlertRaised,
    FrameAccepted,
    FrameRejected,
    ResultCorrected,
    ResultDerived,
)
from schemas.types import Conclusion, FrameRef, Superseded

_ALERTS_KEPT = 50
_REPEATED = "repeated"
_FAILED = "failed"
_NO_RELEASE = "none"
_PERHAPS_SEEN_BEFORE = {_REPEATED, "too_late"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFrames:
    """What a device sent, as assessed."""

    device_id: str = ""
    last_frame: FrameRef | None = None
    last_width_px: int = 0
    last_height_px: int = 0
    last_measures: Mapping[str, float] = field(default_factory=dict)
    last_warnings: tuple[str, ...] = ()
    last_rejected: FrameRef | None = None
    last_rejected_reasons: tuple[str, ...] = ()
    accepted_count: int = 0
    rejected_count: int = 0
    repeated_count: int = 0
    missing_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOutcome:
    """What became of one frame at the door and at assessment."""

    frame: FrameRef | None = None
    status: str = ""
    reasons: tuple[str, ...] = ()
    detail: str = ""
    width_px: int = 0
    height_px: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceResults:
    """What a device's frames counted for."""

    device_id: str = ""
    last_result: ResultDerived | None = None
    last_conclusion: Conclusion | None = None
    outcome_counts: Mapping[str, int] = field(default_factory=dict)
    release_counts: Mapping[str, int] = field(default_factory=dict)
    corrected_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """The one result of one frame, and how often one was counted: once, or something is wrong."""

    result: ResultDerived | None = None
    counted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlerts:
    """Alerts of a subject that stand, oldest first, and how many ever stood."""

    open: tuple[AlertRaised, ...] = ()
    raised_count: int = 0
    cleared_count: int = 0


def fold_device_frames(state: DeviceFrames, event: Any) -> DeviceFrames:
    match event:
        case FrameAccepted():
            return replace(
                state,
                device_id=event.frame.device_id,
                last_frame=event.frame,
                last_width_px=event.width_px,
                last_height_px=event.height_px,
                last_measures=event.measures,
                last_warnings=event.warnings,
                accepted_count=state.accepted_count + 1,
                missing_count=state.missing_count + event.missing_before,
            )
        case FrameRejected() if _REPEATED in event.reasons:
            return replace(state, device_id=event.frame.device_id, repeated_count=state.repeated_count + 1)
        case FrameRejected():
            return replace(
                state,
                device_id=event.frame.device_id,
                last_rejected=event.frame,
                last_rejected_reasons=event.reasons,
                rejected_count=state.rejected_count + 1,
            )
        case _:
            return state


def fold_frame_outcome(state: FrameOutcome, event: Any) -> FrameOutcome:
    match event:
        case FrameAccepted():
            return FrameOutcome(frame=event.frame, status="accepted", width_px=event.width_px, height_px=event.height_px)
        case FrameRejected() if state.status and _PERHAPS_SEEN_BEFORE & set(event.reasons):
            return state
        case FrameRejected():
            return FrameOutcome(frame=event.frame, status="rejected", reasons=event.reasons, detail=event.detail)
        case _:
            return state


def fold_device_results(state: DeviceResults, event: Any) -> DeviceResults:
    match event:
        case ResultDerived() if event.supersedes is not None:
            return _superseding(state, event, event.supersedes)
        case ResultDerived():
            return replace(
                state,
                device_id=event.frame.device_id,
                last_result=event,
                last_conclusion=event.conclusion if event.conclusion is not None else state.last_conclusion,
                outcome_counts=_counted(state.outcome_counts, event.outcome),
                release_counts=_counted(state.release_counts, event.release or _NO_RELEASE),
            )
        case ResultCorrected():
            last, now = state.last_conclusion, event.conclusion
            # A frame that was redriven may correct a passage that is not the newest any more.
            is_newest = last is None or last.passage_id == now.passage_id
            last_conclusion, corrected = now if is_newest else last, state.corrected_count + 1
            return replace(state, device_id=event.device_id, last_conclusion=last_conclusion, corrected_count=corrected)
        case _:
            return state


def fold_frame_result(state: FrameResult, event: Any) -> FrameResult:
    if not isinstance(event, ResultDerived):
        return state
    # A result that supersedes another than the one that counts is a second one, and shows as that.
    is_instead = (
        event.supersedes is not None and state.result is not None and state.result.inference_id == event.supersedes.inference_id
    )
    return FrameResult(result=event, counted=state.counted + (not is_instead))


def fold_alerts(state: OpenAlerts, event: Any) -> OpenAlerts:
    match event:
        case AlertRaised():
            others = tuple(a for a in state.open if a.alert_id != event.alert_id)
            return replace(state, open=(*others, event)[-_ALERTS_KEPT:], raised_count=state.raised_count + 1)
        case AlertCleared():
            others = tuple(a for a in state.open if a.alert_id != event.alert_id)
            return replace(state, open=others, cleared_count=state.cleared_count + 1)
        case _:
            return state


def _superseding(state: DeviceResults, event: ResultDerived, superseded: Superseded) -> DeviceResults:
    """The frame counts for its new answer in place of the failed one. It is an old frame: what is newest stays so."""
    is_last = state.last_result is not None and state.last_result.frame.frame_id == event.frame.frame_id
    now, last = event.conclusion, state.last_conclusion
    releases = _uncounted(state.release_counts, superseded.release or _NO_RELEASE)
    is_of_last = now is not None and last is not None and now.passage_id == last.passage_id
    return replace(
        state,
        device_id=event.frame.device_id,
        last_result=event if is_last else state.last_result,
        last_conclusion=now if is_of_last or (is_last and now is not None) else last,
        outcome_counts=_counted(_uncounted(state.outcome_counts, _FAILED), event.outcome),
        release_counts=_counted(releases, event.release or _NO_RELEASE),
    )


def _uncounted(counts: Mapping[str, int], name: str) -> Mapping[str, int]:
    return {n: count - (n == name) for n, count in counts.items() if count - (n == name) > 0}


def _counted(counts: Mapping[str, int], name: str) -> Mapping[str, int]:
    return {**counts, name: counts.get(name, 0) + 1}
