"""The releases of a pipeline as the router knew them at any position of vision.releases."""

from bisect import bisect_left

from processors.release.core import INITIAL, PipelineReleases, fold
from processors.repeats import Seen, writer_of
from schemas.catalogue import RELEASES
from streams.events import events_of
from streams.past import Past


class ReleaseHistory:
    """Read once; the topic is small, and kept for ever.

    Args:
        pipeline: Whose releases.
    Raises:
        LogUnavailableError: the log does not answer.
    """

    def __init__(self, past: Past, pipeline: str) -> None:
        self._offsets: list[int] = []
        self._states: list[PipelineReleases] = [INITIAL]
        seen = Seen()
        for record, event in events_of(past.log, past.schemas, RELEASES, 0):
            if event.pipeline == pipeline and not seen.is_repeat(event, writer_of(record)):
                seen = seen.with_event(event, writer_of(record))
                self._offsets.append(record.offset)
                self._states.append(fold(self._states[-1], event))

    def at(self, offset: int) -> PipelineReleases:
        """The state before the record at `offset`, as InferenceCompleted.releases_offset names it."""
        return self._states[bisect_left(self._offsets, offset)]

    def now(self) -> PipelineReleases:
        """The state after everything on the log."""
        return self._states[-1]
