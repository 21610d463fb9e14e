"""What a verdict is held to: fixed before the first sample, kept with the state so that the two can't disagree."""

from dataclasses import dataclass, field
from math import fsum

from processors.rollout.samples import MEASURES, Measure
from schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What is tolerated of one measure.

    Args:
        margin: A worsening below this is as good as none; a share of frames, or of the scale from 0 to 1.
        alpha: This measure's part of the chance of a false alarm.
    """

    margin: float
    alpha: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How candidate and incumbent are compared.

    Args:
        paired: Both arms read the same frames (a shadow); else frames by random assignment (a canary).
        alpha: The chance that a candidate is called successful that is worse than a margin. That one which is not worse
            is called failed is at most the sum of the limits' alphas, however often the verdict is asked for.
        units_min: Compared units below which nothing is successful. A failure needs no minimum.
        units_max: Compared units at which an undecided comparison ends as inconclusive.
        unit_frames_max: The first frames of a unit that count; more of them are alike and teach little.
        unit_patience_samples: A unit of which none of so many samples came is taken as over.
        readings_max: Readings per frame that count as full marks.
        latency_samples: The incumbent's first samples, whose 95th percentile says what slow is from then on.
    """

    paired: bool
    alpha: float = 0.05
    error: Limit = field(default=Limit(margin=0.02, alpha=0.02))
    valid: Limit = field(default=Limit(margin=0.03, alpha=0.01))
    readings: Limit = field(default=Limit(margin=0.03, alpha=0.005))
    confidence: Limit = field(default=Limit(margin=0.05, alpha=0.005))
    latency: Limit = field(default=Limit(margin=0.05, alpha=0.01))
    units_min: int = 50
    units_max: int = 3000
    unit_frames_max: int = 4
    unit_patience_samples: int = 200
    readings_max: int = 4
    latency_samples: int = 60

    def __post_init__(self) -> None:
        limits = [self.limit(measure) for measure in MEASURES]
        if not 0 < self.alpha < 1 or any(not (0 < each.margin < 1 and 0 < each.alpha < 1) for each in limits):
            raise ConfigurationError("a plan's alphas and margins lie between 0 and 1", do="give shares, as 0.05 for 5 %")
        if fsum(each.alpha for each in limits) > self.alpha + 1e-9:
            raise ConfigurationError(
                "the measures' alphas add up to more than the plan's", do="lower them, or raise the plan's alpha"
            )
        counts = (self.units_min, self.unit_frames_max, self.unit_patience_samples, self.readings_max, self.latency_samples)
        if min(counts) < 1 or self.units_max < self.units_min:
            raise ConfigurationError("a plan's counts are 1 or more, and units_max no less than units_min", do="raise the count")

    def limit(self, measure: Measure) -> Limit:
        """That of one measure."""
        limit: Limit = getattr(self, measure)
        return limit
