"""Each frame of a window with all that came of it: assessed, read, counted, alerts raised and cleared.

What follows from a frame lies by its key, wherever the frame lies, and what one partition caused on another comes there in
the order of the causes. So the topics are joined as sorted lists are, by one position each, and memory holds one frame of
each partition however long a result took.
"""

import heapq
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from operator import itemgetter

from processors.export.moments import Moment, along
from processors.export.window import Span, Window, span, spans
from processors.repeats import source_of
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, MONITORING, RESULTS
from schemas.events import AlertCleared, AlertRaised, FrameCaptured, FrameRejected, ResultCorrected, ResultDerived
from schemas.types import FrameRef
from streams.partitioning import partition_of
from streams.past import Past

# Brokers' clocks differ: what a frame caused may carry an earlier time than the frame.
_EARLY_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One frame that the broker took in the window, and what of it was known by the window's end; None where nothing was."""

    captured: Moment
    assessed: Moment | None
    inferred: Moment | None
    result: Moment | None
    corrected: Moment | None
    alerts: tuple[Moment, ...]

    @property
    def frame(self) -> FrameRef:
        ref: FrameRef = self.captured.event.frame
        return ref

    @property
    def outcome(self) -> str:
        """read, nothing_read, failed, skipped, rejected, or unfinished."""
        if self.result is not None:
            return str(self.result.event.outcome)
        rejected = self.assessed is not None and isinstance(self.assessed.event, FrameRejected)
        return "rejected" if rejected else "unfinished"

    @property
    def is_repeated(self) -> bool:
        """Whether the device had sent this frame before."""
        return (
            self.assessed is not None
            and isinstance(self.assessed.event, FrameRejected)
            and "repeated" in self.assessed.event.reasons
        )


def stories(past: Past, window: Window) -> Generator[Story, None, None]:
    """The window's frames in the order in which the broker took them.

    Raises:
        TransientError: the log or the registry does not answer.
    """
    with ExitStack() as opened:
        sides = [opened.enter_context(closing(_keyed(past, window, one))) for one in spans(past.log, window, (FRAMES,))]
        for _, story in heapq.merge(*sides, key=itemgetter(0)):
            yield story


def _keyed(past: Past, window: Window, frames_span: Span) -> Generator[tuple[tuple[int, int, int], Story], None, None]:
    with ExitStack() as opened:
        frames = opened.enter_context(closing(along(past, window, frames_span)))
        caused: dict[int, dict[str, _Caused]] = {}
        count = len(past.log.partitions(ASSESSMENTS))
        for captured in frames:
            if isinstance(captured.event, FrameCaptured):
                record = captured.record
                # Most often the frame's own partition; another one where who sent the frame has another hash.
                place = partition_of(captured.event.frame.device_id.encode(), count)
                if place not in caused:
                    caused[place] = _all_caused(past, window, frames_span.partition, place, opened)
                yield (record.appended_at_ms, record.partition, record.offset), _story(captured, caused[place])


def _all_caused(past: Past, window: Window, frames_partition: int, place: int, opened: ExitStack) -> dict[str, "_Caused"]:
    causes = ((ASSESSMENTS, FRAMES, frames_partition), (INFERENCES, ASSESSMENTS, place), (RESULTS, INFERENCES, place))
    return {
        topic: opened.enter_context(closing(_Caused(past, window, topic, place, by, by_partition)))
        for topic, by, by_partition in (*causes, (MONITORING, INFERENCES, place))
    }


def _story(captured: Moment, caused: dict[str, "_Caused"]) -> Story:
    assessed = _first(caused[ASSESSMENTS].by(captured))
    inferred = _first(caused[INFERENCES].by(assessed))
    results, alerts = caused[RESULTS].by(inferred), caused[MONITORING].by(inferred)
    return Story(
        captured=captured,
        assessed=assessed,
        inferred=inferred,
        result=_first(tuple(m for m in results if isinstance(m.event, ResultDerived))),
        corrected=_first(tuple(m for m in results if isinstance(m.event, ResultCorrected))),
        # A check of a view names the same sources, and its alerts are about the view.
        alerts=tuple(
            m
            for m in alerts
            if isinstance(m.event, AlertRaised | AlertCleared) and m.event.subject == captured.event.frame.device_id
        ),
    )


def _first(found: tuple[Moment, ...]) -> Moment | None:
    return found[0] if found else None


class _Caused:
    """Events of one partition by what caused them, asked for in the order of the causes."""

    def __init__(self, past: Past, window: Window, topic: str, partition: int, by_topic: str, by_partition: int) -> None:
        self._found = along(past, window, span(past.log, window, topic, partition, early_ms=_EARLY_MS))
        self._by = by_topic, by_partition
        self._next = self._following()

    def by(self, cause: Moment | None) -> tuple[Moment, ...]:
        """What this record caused; empty for no record."""
        out: list[Moment] = []
        while cause is not None and self._next is not None and self._next[0] <= cause.record.offset:
            if self._next[0] == cause.record.offset:
                out.append(self._next[1])
            self._next = self._following()
        return tuple(out)

    def close(self) -> None:
        self._found.close()

    def _following(self) -> tuple[int, Moment] | None:
        for moment in self._found:
            source = None if moment.event is None or moment.is_repeat else source_of(moment.event)
            if source is not None and (source.topic, source.partition) == self._by:
                return source.offset, moment
        return None
