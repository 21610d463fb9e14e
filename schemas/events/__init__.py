"""Every event and command that the log may hold, grouped by topic."""

from schemas.events.assessments import FrameAccepted, FrameRejected
from schemas.events.commands import (
    ChangeThreshold,
    EraseFrames,
    PromoteRelease,
    RegisterModel,
    RegisterRelease,
    ReportReleaseLoaded,
    ReportReleaseLoadFailed,
)
from schemas.events.erasures import ErasureRefused, FramesErased
from schemas.events.frames import FrameCaptured, FrameRefused, FramesDropped
from schemas.events.inferences import InferenceCompleted, InferenceFailed, InferenceSkipped
from schemas.events.monitoring import AlertCleared, AlertRaised, DriftDetected, QualityMeasured, SnapshotTaken
from schemas.events.releases import (
    CanaryStarted,
    CommandRefused,
    ModelRegistered,
    PromotionRequested,
    ReleaseLoaded,
    ReleaseLoadFailed,
    ReleasePromoted,
    ReleaseRegistered,
    ReleaseRolledBack,
    RolloutJudged,
    ShadowStarted,
    ThresholdChanged,
)
from schemas.events.results import ResultCorrected, ResultDerived

__all__ = [
    "AlertCleared",
    "AlertRaised",
    "CanaryStarted",
    "ChangeThreshold",
    "CommandRefused",
    "DriftDetected",
    "EraseFrames",
    "ErasureRefused",
    "FrameAccepted",
    "FrameCaptured",
    "FrameRefused",
    "FrameRejected",
    "FramesDropped",
    "FramesErased",
    "InferenceCompleted",
    "InferenceFailed",
    "InferenceSkipped",
    "ModelRegistered",
    "PromoteRelease",
    "PromotionRequested",
    "QualityMeasured",
    "RegisterModel",
    "RegisterRelease",
    "ReleaseLoadFailed",
    "ReleaseLoaded",
    "ReleasePromoted",
    "ReleaseRegistered",
    "ReleaseRolledBack",
    "ReportReleaseLoadFailed",
    "ReportReleaseLoaded",
    "ResultCorrected",
    "ResultDerived",
    "RolloutJudged",
    "ShadowStarted",
    "SnapshotTaken",
    "ThresholdChanged",
]
