"""Rules of a pipeline that reads nothing: each frame stands alone."""

from processors.rules.contract import AlertWanted
from schemas.types import Conclusion, FrameRef, Observation, Reading

NAME = "stand_in"
VERSION = 1


def read(observations: tuple[Observation, ...]) -> tuple[Reading, ...]:
    """Nothing."""
    return ()


def passage_of(frame: FrameRef) -> str | None:
    """None but the device's own."""
    return frame.passage_id


def ballot(readings: tuple[Reading, ...]) -> Reading | None:
    """Nothing to vote for."""
    return None


def alerts(conclusion: Conclusion) -> tuple[AlertWanted, ...]:
    """Never any."""
    return ()
