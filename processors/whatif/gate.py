"""Whether a what-if report lets a promotion pass: limits by name, what was found, and the first that does not hold. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LIMITS: Mapping[str, float] = {
    "frames_least": 20.0,
    "not_read_share_most": 0.05,
    "failed_share_most": 0.01,
    "valid_share_drop_most": 0.02,
    "read_share_drop_most": 0.05,
}
"""What a promotion is held to when nobody says otherwise. Shares are of frames: those that could not be read again, those that
failed, those with a reading that verifies itself (fewer than recorded by), those with any reading (fewer than recorded by)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What was found, by name, and the conditions that do not hold, in words."""

    measures: Mapping[str, float]
    broken: tuple[str, ...]


def held(report: Mapping[str, Any], limits: Mapping[str, float]) -> Passed:
    """A what-if's counts (`Tally.as_plain`) held to limits.

    Args:
        limits: All of `LIMITS`, with the values that hold.
    """
    frames, not_read = report["frames"], report["frames_not_read"]
    outcomes = {side: _outcomes(report, side) for side in ("recorded", "whatif")}
    valid = {side: report["proofs"][side]["frames"]["rate"] or 0.0 for side in outcomes}
    read = {side: counts.get("read", 0) / frames if frames else 0.0 for side, counts in outcomes.items()}
    measures = {
        "frames": float(frames),
        "not_read_share": not_read / (frames + not_read) if frames + not_read else 0.0,
        "failed_share": outcomes["whatif"].get("failed", 0) / frames if frames else 0.0,
        "valid_share_recorded": valid["recorded"],
        "valid_share_whatif": valid["whatif"],
        "read_share_recorded": read["recorded"],
        "read_share_whatif": read["whatif"],
    }
    found = {
        "not_read_share_most": measures["not_read_share"],
        "failed_share_most": measures["failed_share"],
        "valid_share_drop_most": valid["recorded"] - valid["whatif"],
        "read_share_drop_most": read["recorded"] - read["whatif"],
    }
    broken = [f"{frames} frames could be compared, and {limits['frames_least']:g} are wanted"] * (frames < limits["frames_least"])
    broken += [f"{name} is {limits[name]:g}, and it is {value:.4g}" for name, value in found.items() if value > limits[name]]
    return Passed(measures=measures, broken=tuple(broken))


def _outcomes(report: Mapping[str, Any], side: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in report["outcomes"]:
        counts[one[side]] = counts.get(one[side], 0) + one["frames"]
    return counts
