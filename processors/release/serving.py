"""What the loader tells of the inference servers, as events: a model started anew, and what is loaded other than it should be.

Several workers may look at the same server. What one of them has told already, another tells in vain. Pure.
"""

from processors.release.state import Difference, PipelineReleases, place_of
from processors.step import Cause
from schemas import ids
from schemas.events import LoadedModelsDiffered, ModelHealed, ReportLoadedModels, ReportModelHealed


def healed(state: PipelineReleases, command: ReportModelHealed, cause: Cause) -> tuple[ModelHealed, ...]:
    """Once for each death: a report of one that began before the last healing is of the same."""
    died_at_us = command.issued_at_us - command.down_us
    if died_at_us <= state.healed_at_us.get(place_of(command), 0):
        return ()
    return (
        ModelHealed(
            event_id=ids.event_id(cause.position, "ModelHealed"),
            source=cause.position,
            pipeline=command.pipeline,
            endpoint=command.endpoint,
            model=command.model,
            release=command.release,
            seen=command.seen,
            down_us=command.down_us,
            healed_at_us=command.issued_at_us,
        ),
    )


def differed(state: PipelineReleases, command: ReportLoadedModels, cause: Cause) -> tuple[LoadedModelsDiffered, ...]:
    """When it changes."""
    known = state.differences.get(command.endpoint, Difference(missing=(), unknown=()))
    if (known.missing, known.unknown) == (command.missing, command.unknown):
        return ()
    return (
        LoadedModelsDiffered(
            event_id=ids.event_id(cause.position, "LoadedModelsDiffered"),
            source=cause.position,
            pipeline=command.pipeline,
            endpoint=command.endpoint,
            missing=command.missing,
            unknown=command.unknown,
            seen_at_us=command.issued_at_us,
        ),
    )
