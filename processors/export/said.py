"""What viewers show of an event beside its fields: one line of a log, when it was true, and the corners of what was seen."""

from dataclasses import dataclass
from typing import Any

from schemas.events import (
    AlertCleared,
    AlertRaised,
    CanaryAdvanced,
    CanaryStarted,
    CommandRefused,
    DriftDetected,
    FrameRejected,
    FramesErased,
    InferenceFailed,
    LoadedModelsDiffered,
    ModelHealed,
    ModelRegistered,
    PromotionEnded,
    PromotionRequested,
    ReleaseLoaded,
    ReleaseLoadFailed,
    ReleasePromoted,
    ReleaseRegistered,
    ReleaseRolledBack,
    RolloutEnded,
    RolloutJudged,
    ShadowStarted,
    ThresholdChanged,
)
from schemas.types import Candidate, Observation, Reading

INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"
OBSERVED_RGB, CANDIDATE_RGB, ALERT_RGB = (0, 200, 80), (255, 170, 0), (215, 30, 30)
_LATEST_US = 9_000_000_000_000_000  # the year 2255: nanoseconds until then fit into 64 bits with a sign
_FARTHEST_PX = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """`level` is INFO, WARNING or ERROR; `name` is the device or the pipeline."""

    level: str
    name: str
    message: str


def log_line(event: Any) -> LogLine | None:
    """Alerts, releases and what went wrong as a line; None for everything else."""
    match event:
        case AlertRaised():
            level = ERROR if event.severity in ("critical", "error") else WARNING
            return LogLine(level=level, name=event.subject, message=f"alert {event.kind}: {event.message}")
        case AlertCleared():
            return LogLine(level=INFO, name=event.subject, message=f"alert {event.kind} cleared: {event.reason}")
        case DriftDetected():
            said = f"drift of {event.measure}: {event.test} {event.statistic:g}, threshold {event.threshold:g}"
            return LogLine(level=WARNING, name=event.subject, message=said)
        case FramesErased():
            said = f"{event.frames_count} frames erased by order {event.order_id}, asked by {event.issued_by}"
            return LogLine(level=WARNING, name=event.device_id, message=said)
        case FrameRejected():
            said = f"frame #{event.frame.sequence} rejected: {', '.join(event.reasons)}"
            return LogLine(level=WARNING, name=event.frame.device_id, message=said)
        case InferenceFailed():
            said = f"frame #{event.frame.sequence} not read: {event.error_class}: {event.error_message}"
            return LogLine(level=ERROR, name=event.frame.device_id, message=said)
        case _:
            said = _release_change(event)
            level = ERROR if isinstance(event, ReleaseLoadFailed) else WARNING if isinstance(event, CommandRefused) else INFO
            return LogLine(level=level, name=event.pipeline, message=said) if said else None


def _release_change(event: Any) -> str:
    match event:
        case ModelRegistered():
            return f"model {event.model}:{event.version} registered"
        case ReleaseRegistered():
            return f"release {event.release} registered by {event.issued_by}"
        case ReleaseLoaded():
            return f"release {event.release} loaded at {event.endpoint}"
        case ReleaseLoadFailed():
            return f"release {event.release} could not be loaded at {event.endpoint}: {event.error_message}"
        case ModelHealed():
            return (
                f"the process of {event.model} at {event.endpoint} died, and was started anew after {event.down_us / 1e6:.1f} s"
            )
        case LoadedModelsDiffered():
            return _loaded_otherwise(event)
        case PromotionRequested():
            return f"release {event.release} to be promoted by {event.issued_by}"
        case PromotionEnded():
            what = "way back to" if event.is_rollback else "promotion of"
            return f"the {what} {event.release} called off by {event.issued_by}"
        case ReleasePromoted():
            return f"release {event.release} promoted by {event.issued_by}, before it {event.previous_release or 'none'}"
        case ReleaseRolledBack():
            return f"release {event.previous_release} rolled back to {event.release} by {event.issued_by}"
        case ShadowStarted():
            return f"release {event.release} reads in the shadow"
        case CanaryStarted():
            return f"release {event.release} reads {event.percent:g} percent"
        case CanaryAdvanced():
            return f"release {event.release} reads {event.percent:g} percent, before {event.previous_percent:g}"
        case RolloutJudged():
            return f"rollout of {event.release}: {event.verdict}"
        case RolloutEnded():
            return f"{event.kind} of {event.release} {event.outcome} by {event.issued_by}"
        case ThresholdChanged():
            return f"{event.name} is {event.value:g} by {event.issued_by}"
        case CommandRefused():
            return f"{event.command} refused: {event.refusal} {event.detail}".rstrip()
        case _:
            return ""


def _loaded_otherwise(event: LoadedModelsDiffered) -> str:
    lacks = f"lacks {', '.join(event.missing)}" if event.missing else ""
    has = f"has {', '.join(event.unknown)}, which no release names" if event.unknown else ""
    return f"{event.endpoint} {' and '.join(x for x in (lacks, has) if x) or 'has loaded what the log says again'}"


def true_at_us(event: Any, *, otherwise_us: int) -> int:
    """When an event was true by its own word: its frame's capture, or the one time that it carries."""
    if hasattr(event, "frame"):
        return int(event.frame.captured_at_us)
    names = (name for name in event.__dataclass_fields__ if name.endswith("_at_us"))
    return int(getattr(event, next(names, ""), otherwise_us))


def within_clocks(at_us: int) -> int:
    """A device's word for the time, held within what the formats can say: 1970 to 2255."""
    return min(max(at_us, 0), _LATEST_US)


def corners(polygon_px: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """The points of a polygon, held near the image; half a point at the end is none."""
    return tuple((_held(x), _held(y)) for x, y in zip(polygon_px[0::2], polygon_px[1::2], strict=False))


def caption(seen: Observation | Candidate | Reading) -> str:
    """What is written beside a box."""
    reason = f" ({seen.reason})" if isinstance(seen, Candidate) else ""
    return f"{seen.label or seen.kind} {seen.confidence:.2f}{reason}"


def _held(value: float) -> float:
    return min(max(value, -_FARTHEST_PX), _FARTHEST_PX)
