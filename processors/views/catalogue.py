"""Every view: its name, the topic that it folds, whose state an event belongs to, and the fold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from processors.release import core as release
from processors.views import features, folds, letters
from schemas.catalogue import ASSESSMENTS, MONITORING, REDRIVES, RELEASES, RESULTS

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Generic[S]):
    """One view. `key` gives None for an event that changes no state.

    `version` goes up when the fold gives other states for the same events: what older versions left in snapshots is not read.
    `by_record_key` is whether records carry the state's key as their own, so that others can be passed over unread.
    """

    name: str
    topic: str
    initial: S
    key: Callable[[Any], str | None]
    fold: Callable[[S, Any], S]
    version: int = 1
    by_record_key: bool = True

    @property
    def state_type(self) -> type[S]:
        return type(self.initial)


def _device(event: Any) -> str | None:
    return str(event.frame.device_id) if hasattr(event, "frame") else str(event.device_id)


def _frame(event: Any) -> str | None:
    return str(event.frame.frame_id) if hasattr(event, "frame") else None


def _subject(event: Any) -> str | None:
    return str(event.subject) if hasattr(event, "subject") else None


VIEWS: Mapping[str, View[Any]] = MappingProxyType(
    {
        view.name: view
        for view in (
            View(
                name="device_frames",
                topic=ASSESSMENTS,
                initial=folds.DeviceFrames(),
                key=_device,
                fold=folds.fold_device_frames,
                version=2,
            ),
            View(
                name="frame_outcomes",
                topic=ASSESSMENTS,
                initial=folds.FrameOutcome(),
                key=_frame,
                fold=folds.fold_frame_outcome,
                version=2,
                by_record_key=False,
            ),
            View(
                name="device_results",
                topic=RESULTS,
                initial=folds.DeviceResults(),
                key=_device,
                fold=folds.fold_device_results,
                version=4,
            ),
            View(
                name="results_by_frame",
                topic=RESULTS,
                initial=folds.FrameResult(),
                key=_frame,
                fold=folds.fold_frame_result,
                version=3,
                by_record_key=False,
            ),
            View(
                name="device_features",
                topic=RESULTS,
                initial=features.DeviceFeatures(),
                key=_device,
                fold=features.fold_device_features,
            ),
            View(name="alerts", topic=MONITORING, initial=folds.OpenAlerts(), key=_subject, fold=folds.fold_alerts),
            View(
                name="letters",
                topic=REDRIVES,
                initial=letters.LetterState(),
                key=letters.case_key,
                fold=letters.fold_letter,
                by_record_key=False,
            ),
            View(
                name="releases",
                topic=RELEASES,
                initial=release.INITIAL,
                key=lambda e: str(e.pipeline),
                fold=release.fold,
                version=3,
            ),
        )
    }
)
