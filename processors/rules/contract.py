"""What a rules module has. `derive` calls it and knows nothing else of what the models read.

A module is named by the setting `pipeline.rules`, and is checked against this when a worker starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from schemas.errors import ConfigurationError
from schemas.types import Conclusion, FrameRef, Observation, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertWanted:
    """An alert that should stand after this frame. The same kind and passage are the same alert."""

    kind: str
    severity: str
    message: str
    evidence: Mapping[str, str]


class Rules(Protocol):
    """Pure functions; the same arguments give the same answer for ever, or `VERSION` goes up."""

    NAME: str
    VERSION: int

    def read(self, observations: tuple[Observation, ...]) -> tuple[Reading, ...]:
        """What the frame's observations mean."""

    def passage_of(self, frame: FrameRef) -> str | None:
        """Which passage the frame belongs to; None when it stands alone."""

    def ballot(self, readings: tuple[Reading, ...]) -> Reading | None:
        """What the frame votes for in its passage; None when it does not vote."""

    def alerts(self, conclusion: Conclusion) -> tuple[AlertWanted, ...]:
        """Alerts that should stand, given what the passage says now."""


def load(module_name: str) -> Rules:
    """The rules module by its import name.

    Raises:
        ConfigurationError: it cannot be imported, or lacks a part.
    """
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(
            f"pipeline.rules: {module_name} cannot be imported: {error}",
            setting="pipeline.rules",
            do="name a Python module that is installed in this environment",
        ) from error
    missing = [part for part in ("NAME", "VERSION", "read", "passage_of", "ballot", "alerts") if not hasattr(module, part)]
    if missing:
        raise ConfigurationError(
            f"pipeline.rules: {module_name} lacks {', '.join(missing)}",
            setting="pipeline.rules",
            do="see processors/rules/contract.py for what a rules module has",
        )
    return cast(Rules, module)
