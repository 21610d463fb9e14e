"""The release processor: one writer decides, because one partition of commands has one owner at a time."""

from typing import Any

from processors.release import core
from processors.step import Cause
from schemas.catalogue import COMMANDS
from schemas.events import DiscardLetters, EraseFrames, RedriveLetters
from schemas.types import SourcePosition

_OF_OTHERS = (EraseFrames, RedriveLetters, DiscardLetters)


class ReleaseStep:
    """Reads vision.commands, but for what others carry out. State: each pipeline's releases, folded from what commands gave."""

    name = "release"
    topic = COMMANDS
    state_type = core.PipelineReleases
    initial = core.INITIAL

    def key(self, event: Any) -> str | None:
        return None if isinstance(event, _OF_OTHERS) else str(event.pipeline)

    def decide(self, state: core.PipelineReleases, event: Any, answer: Any, cause: Cause) -> tuple[Any, ...]:
        return () if isinstance(event, _OF_OTHERS) else core.decide(state, event, cause)

    def fold(self, state: core.PipelineReleases, event: Any) -> core.PipelineReleases:
        return core.fold_all(core.decide(state, event, _CATCHING_UP), state)


_CATCHING_UP = Cause(
    position=SourcePosition(topic=COMMANDS, partition=0, offset=0, index=0),
    event_id="",
    correlation_id="",
    traceparent="",
    now_us=0,
)
