"""What is drawn on a device's frames: boxes of readings and candidates, and below them who, when, which release and alerts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from processors.export import said
from processors.export.drawing import (
    Outline,
    Picture,
    Placed,
    Rgb,
    annotated,
    grey_frame,
    on_canvas,
    placed,
    strip_height_px,
)
from processors.export.stories import Story
from schemas.envelope import rfc3339
from schemas.events import AlertRaised, FrameAccepted, FrameRejected, InferenceCompleted, ResultDerived
from schemas.types import Candidate, Observation, Reading

_STRIP_LINES = 4
_NARROWEST_PX, _LOWEST_PX, _LONGEST_PX = 480, 160, 1920
_UNKNOWN_PX = (640, 480)
_OTHER_OBSERVATION_RGB: Rgb = (90, 160, 255)
_ALERTS_KEPT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """The size of a video's pictures without the strip below; both sides even."""

    width_px: int
    height_px: int

    @classmethod
    def of(cls, story: Story, picture: Picture | None) -> Self:
        """The first picture's size, within what is fit for a video; what was recorded of it when it is not there."""
        width, height = _recorded_size(story) if picture is None else _size(picture)
        scale = min(1.0, _LONGEST_PX / max(width, height))
        return cls(
            width_px=_even(max(_NARROWEST_PX, width * scale)),
            height_px=_even(max(_LOWEST_PX, height * scale)),
        )

    @property
    def full_height_px(self) -> int:
        return self.height_px + strip_height_px(_STRIP_LINES)

    def place(self, width_px: int, height_px: int) -> Placed:
        """Where an image of that size lies."""
        return placed(width_px, height_px, self.width_px, self.height_px)


class Overlay:
    """One device's drawing; it keeps the alerts that stand."""

    def __init__(self) -> None:
        self._alerts: dict[str, AlertRaised] = {}

    def drawn(self, story: Story, picture: Picture | None, trouble: str, canvas: Canvas) -> Picture:
        """The frame's picture, or a grey one that says why there is none, on the canvas with all that is known of it."""
        self._fold(story)
        place = canvas.place(*(_size(picture) if picture is not None else _recorded_size(story)))
        if picture is None:
            shown = grey_frame(canvas.width_px, canvas.height_px, trouble)
        else:
            shown = on_canvas(picture, place, canvas.width_px, canvas.height_px)
        return annotated(shown, (_placed(one, place) for one in _outlines(story)), self._strip(story))

    def _fold(self, story: Story) -> None:
        for moment in story.alerts:
            self._alerts.pop(moment.event.alert_id, None)
            if isinstance(moment.event, AlertRaised):
                self._alerts[moment.event.alert_id] = moment.event
        for alert_id in list(self._alerts)[:-_ALERTS_KEPT]:
            del self._alerts[alert_id]

    def _strip(self, story: Story) -> tuple[tuple[str, Rgb | None], ...]:
        frame = story.frame
        alert = next(reversed(self._alerts.values()), None)
        more = f" (and {len(self._alerts) - 1} more)" if len(self._alerts) > 1 else ""
        return (
            (f"{_time(frame.captured_at_us)}  {frame.device_id}  #{frame.sequence}", None),
            (_release(story), None),
            (_conclusion(story), None),
            (f"ALERT {alert.kind}: {alert.message}{more}", said.ALERT_RGB) if alert is not None else ("", None),
        )


def _outlines(story: Story) -> Iterator[Outline]:
    inferred = story.inferred.event if story.inferred is not None else None
    if not isinstance(inferred, InferenceCompleted):
        return
    result = story.result.event if story.result is not None else None
    readings: tuple[Reading, ...] = result.readings if isinstance(result, ResultDerived) else ()
    counted = {reading.observation_index for reading in readings}
    for candidate in inferred.candidates:
        yield _outline(candidate, said.CANDIDATE_RGB)
    for observation in inferred.observations:
        if observation.index not in counted:
            yield _outline(observation, _OTHER_OBSERVATION_RGB)
    for reading in readings:
        yield _outline(reading, said.OBSERVED_RGB)


def _outline(seen: Observation | Candidate | Reading, rgb: Rgb) -> Outline:
    return Outline(points=said.corners(seen.polygon_px), caption=said.caption(seen), rgb=rgb)


def _placed(one: Outline, place: Placed) -> Outline:
    return Outline(points=tuple(place.point(x, y) for x, y in one.points), caption=one.caption, rgb=one.rgb)


def _release(story: Story) -> str:
    match story.assessed.event if story.assessed is not None else None:
        case FrameRejected(reasons=reasons, detail=detail):
            return f"rejected: {', '.join(reasons)} {detail}".rstrip()
        case None:
            return "not assessed by the end of the window"
    if story.inferred is None:
        return "not read by the end of the window"
    return f"release {getattr(story.inferred.event, 'release', None) or 'none'}  {story.outcome.replace('_', ' ')}"


def _conclusion(story: Story) -> str:
    result = story.result.event if story.result is not None else None
    if result is None:
        return ""
    if result.conclusion is None:
        return str(result.detail)
    found = result.conclusion
    proof = {True: "valid", False: "not valid", None: "not verifiable"}[found.valid]
    corrected = ", corrected" if story.corrected is not None else ""
    return (
        f"passage {found.passage_id}: {found.label or 'nothing'} ({proof}, {found.votes_for} of {found.votes_total}{corrected})"
    )


def _size(picture: Picture) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]


def _recorded_size(story: Story) -> tuple[int, int]:
    accepted = story.assessed.event if story.assessed is not None else None
    if isinstance(accepted, FrameAccepted) and accepted.width_px > 0 and accepted.height_px > 0:
        return accepted.width_px, accepted.height_px
    return _UNKNOWN_PX


def _even(side: float) -> int:
    return round(side) + round(side) % 2


def _time(at_us: int) -> str:
    return rfc3339(said.within_clocks(at_us))[:23].replace("T", " ") + " UTC"
