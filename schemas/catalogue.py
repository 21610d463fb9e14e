"""Which event lives on which topic, and what each topic is like.

The one list that the codec, the topic creation, the registry check and the docs are made from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from schemas import events as e

FRAMES = "vision.frames"
ASSESSMENTS = "vision.assessments"
INFERENCES = "vision.inferences"
CANDIDATES = "vision.candidates"
RESULTS = "vision.results"
RELEASES = "vision.releases"
COMMANDS = "vision.commands"
MONITORING = "vision.monitoring"
ERASURES = "vision.erasures"
DEAD_LETTERS = "vision.dead-letters"
REDRIVES = "vision.redrives"

_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic as it should be on the broker.

    `chained` topics have the same number of partitions, so a key that our hash placed lies in the same one of each.
    `retention_ms` of -1 keeps everything. `longest_bytes` bounds a record's value: small where records come from outside,
    so that everything that follows from one fits on its own topic.
    """

    name: str
    key: str
    chained: bool
    retention_ms: int
    events: tuple[type, ...] = field(repr=False)
    longest_bytes: int = 8 * 1024 * 1024


TOPICS: Mapping[str, Topic] = MappingProxyType(
    {
        t.name: t
        for t in (
            Topic(
                name=FRAMES,
                key="device_id",
                chained=True,
                retention_ms=400 * _DAY_MS,
                events=(e.FrameCaptured, e.FrameRefused, e.FramesDropped),
                longest_bytes=1024 * 1024,
            ),
            Topic(
                name=ASSESSMENTS,
                key="device_id",
                chained=True,
                retention_ms=400 * _DAY_MS,
                events=(e.FrameAccepted, e.FrameRejected),
            ),
            Topic(
                name=INFERENCES,
                key="device_id",
                chained=True,
                retention_ms=400 * _DAY_MS,
                events=(e.InferenceCompleted, e.InferenceFailed, e.InferenceSkipped),
            ),
            Topic(
                name=CANDIDATES,
                key="device_id",
                chained=True,
                retention_ms=400 * _DAY_MS,
                events=(e.CandidateCompleted, e.CandidateFailed),
            ),
            Topic(
                name=RESULTS,
                key="device_id",
                chained=True,
                retention_ms=400 * _DAY_MS,
                events=(e.ResultDerived, e.ResultCorrected),
            ),
            Topic(
                name=RELEASES,
                key="pipeline",
                chained=False,
                retention_ms=-1,
                events=(
                    e.ModelRegistered,
                    e.ReleaseRegistered,
                    e.ReleaseLoaded,
                    e.ReleaseLoadFailed,
                    e.ModelHealed,
                    e.LoadedModelsDiffered,
                    e.PromotionRequested,
                    e.PromotionEnded,
                    e.ShadowStarted,
                    e.CanaryStarted,
                    e.CanaryAdvanced,
                    e.RolloutJudged,
                    e.RolloutEnded,
                    e.ReleasePromoted,
                    e.ReleaseRolledBack,
                    e.ThresholdChanged,
                    e.CommandRefused,
                ),
            ),
            Topic(
                name=COMMANDS,
                key="pipeline, device_id or the letters' topic",
                chained=False,
                retention_ms=-1,
                events=(
                    e.RegisterModel,
                    e.RegisterRelease,
                    e.PromoteRelease,
                    e.RollBackRelease,
                    e.StartShadow,
                    e.StartCanary,
                    e.AbortRollout,
                    e.ChangeThreshold,
                    e.ReportReleaseLoaded,
                    e.ReportReleaseLoadFailed,
                    e.ReportModelHealed,
                    e.ReportLoadedModels,
                    e.ReportVerdict,
                    e.EraseFrames,
                    e.RedriveLetters,
                    e.DiscardLetters,
                ),
                longest_bytes=1024 * 1024,
            ),
            Topic(
                name=MONITORING,
                key="subject",
                chained=True,
                retention_ms=400 * _DAY_MS,
                events=(e.QualityMeasured, e.DriftDetected, e.RolloutSampled, e.AlertRaised, e.AlertCleared, e.SnapshotTaken),
            ),
            Topic(name=ERASURES, key="device_id", chained=False, retention_ms=-1, events=(e.FramesErased, e.ErasureRefused)),
            Topic(name=DEAD_LETTERS, key="source topic", chained=False, retention_ms=90 * _DAY_MS, events=()),
            Topic(
                name=REDRIVES,
                key="letter",
                chained=False,
                retention_ms=-1,
                events=(e.LetterRedriven, e.LetterDiscarded, e.LetterRefused),
            ),
        )
    }
)

TOPIC_OF: Mapping[type, str] = MappingProxyType({event: t.name for t in TOPICS.values() for event in t.events})
EVENT_BY_NAME: Mapping[str, type] = MappingProxyType({event.__name__: event for event in TOPIC_OF})


def full_name(event: type) -> str:
    """Avro full name of an event type, such as hindsight.frames.FrameCaptured."""
    return f"hindsight.{TOPIC_OF[event].removeprefix('vision.')}.{event.__name__}"


def subject(event: type, *, prefix: str = "") -> str:
    """Registry subject: TopicRecordNameStrategy, the topic's name and the record's full name."""
    return f"{prefix}{TOPIC_OF[event]}-{full_name(event)}"
