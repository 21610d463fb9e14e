"""What came of a device's frames around a moment: each frame with its assessment, inference and result, and what lies beside.

A frame belongs to the window when it was captured in it by the device's clock, or taken by the broker in it. Reads each
partition of vision.frames, since frames lie where their senders put them, and the device's of the other topics; first
copies count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.lookback.redone import Redone
from processors.lookback.scan import FAR, Entry, Say, backwards, caused_by, entry_of, keyed, partition_by_key, start_of
from processors.repeats import source_of
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, RESULTS
from schemas.errors import ContractError
from schemas.events import FrameCaptured, FrameRefused, FrameRejected, FramesDropped, ResultDerived
from schemas.types import SourcePosition
from streams.past import Past

LATE_S = 900.0
_FRAMES_MOST = 5000
_MANY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One frame and what became of it; None where nothing did."""

    frame: Entry
    assessment: Entry | None = None
    inference: Entry | None = None
    result: Entry | None = None

    @property
    def sequence(self) -> int:
        return int(self.frame.event.frame.sequence)

    @property
    def captured_at_us(self) -> int:
        return int(self.frame.event.frame.captured_at_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A device's frames around a moment, in the order of the log, with the frames next to the window.

    `progress` is, by topic, the newest record that has an event there; `checked` says what was read.
    """

    device: str
    at_us: int
    from_us: int
    to_us: int
    stories: tuple[Story, ...]
    dropped: tuple[Entry, ...]
    before: Entry | None
    after: Entry | None
    after_assessment: Entry | None
    progress: dict[str, SourcePosition]
    checked: tuple[str, ...]


def gather(past: Past, device: str, *, at_us: int, around_s: float, say: Say = lambda _: None) -> Window:
    """Everything about a device within `around_s` seconds on each side of a moment.

    Raises:
        ContractError: the window holds more frames than can be told one by one, or the log has none of its topics.
        LogUnavailableError: the log does not answer.
    """
    partitions = past.log.partitions(FRAMES)
    if not partitions:
        raise ContractError(f"{past.source} holds nothing of {FRAMES}")
    from_us, to_us = at_us - round(around_s * 1e6), at_us + round(around_s * 1e6)
    # Frames lie where whoever sent them put them; what follows from them lies by its key.
    spans = {p: _offsets(past, p, from_us, to_us) for p in partitions}
    sent = [e for p, (first, stop) in spans.items() for e in _sent(past, device, p, first, stop, from_us, to_us)]
    sent.sort(key=lambda e: (e.place.appended_at_us, e.place.partition, e.place.offset))
    frames = [e for e in sent if isinstance(e.event, (FrameCaptured, FrameRefused))]
    if len(frames) > _MANY:
        say(f"{len(frames)} frames of {device} in the window; following each")
    stories = _stories(past, frames)
    befores = [e for p, (first, _) in spans.items() if (e := _next_to(past, device, p, first, forward=False)) is not None]
    afters = [e for p in spans if (e := _next_to(past, device, p, _after(past, p, to_us), forward=True)) is not None]
    before = max(befores, key=lambda e: e.place.appended_at_us, default=None)
    after = min(afters, key=lambda e: e.place.appended_at_us, default=None)
    assessed = () if after is None else caused_by(past, ASSESSMENTS, [after])[after.event_id]
    topics = (ASSESSMENTS, INFERENCES, RESULTS)
    return Window(
        device=device,
        at_us=at_us,
        from_us=from_us,
        to_us=to_us,
        stories=stories,
        dropped=tuple(e for e in sent if isinstance(e.event, FramesDropped)),
        before=before,
        after=after,
        after_assessment=assessed[0] if assessed else None,
        progress={topic: found for topic in topics if (found := _progress(past, topic, device)) is not None},
        checked=_checked(past, device, spans, stories),
    )


def _offsets(past: Past, partition: int, from_us: int, to_us: int) -> tuple[int, int]:
    """Where frames of the window can lie: from its start on, and after its end for those that came late."""
    first = start_of(past, FRAMES, partition, from_us)
    late = past.log.offset_at(FRAMES, partition, (to_us + round(LATE_S * 1e6)) // 1000 + 1)
    return first, max(first, min(late, first + FAR))


def _after(past: Past, partition: int, to_us: int) -> int:
    return past.log.offset_at(FRAMES, partition, to_us // 1000 + 1)


def _sent(past: Past, device: str, partition: int, first: int, stop: int, from_us: int, to_us: int) -> Iterator[Entry]:
    """What the device sent, without what it sent again, in the window by either clock."""
    seen: set[str] = set()
    for record in keyed(past.log.read(FRAMES, partition, first, stop), device):
        entry = entry_of(record, past)
        if entry.event is None or entry.event_id in seen:
            continue
        clocks = [entry.place.appended_at_us]
        if not isinstance(entry.event, FramesDropped):
            clocks.append(entry.event.frame.captured_at_us)
        if any(from_us <= clock <= to_us for clock in clocks):
            seen.add(entry.event_id)
            if len(seen) > _FRAMES_MOST:
                raise ContractError(f"more than {_FRAMES_MOST} frames lie in the window", do="ask with a smaller --around")
            yield entry


def _stories(past: Past, frames: list[Entry]) -> tuple[Story, ...]:
    redone = Redone(past)
    assessed = _first_of(redone.caused(ASSESSMENTS, frames))
    accepted = [e for e in assessed.values() if not isinstance(e.event, FrameRejected)]
    inferred = _first_of(redone.caused(INFERENCES, accepted))
    derived = _first_of(redone.caused(RESULTS, inferred.values()))
    return tuple(_story(frame, assessed, inferred, derived) for frame in frames)


def _story(frame: Entry, assessed: Any, inferred: Any, derived: Any) -> Story:
    assessment = assessed.get(frame.event_id)
    inference = inferred.get(assessment.event_id) if assessment is not None else None
    result = derived.get(inference.event_id) if inference is not None else None
    return Story(frame=frame, assessment=assessment, inference=inference, result=result)


def _first_of(caused: Mapping[str, tuple[Entry, ...]]) -> dict[str, Entry]:
    """By the cause's id, the one event that it led to."""
    firsts = {cause: next((e for e in entries if _is_outcome(e)), None) for cause, entries in caused.items()}
    return {cause: entry for cause, entry in firsts.items() if entry is not None}


def _is_outcome(entry: Entry) -> bool:
    return entry.place.topic != RESULTS or isinstance(entry.event, ResultDerived)


def _next_to(past: Past, device: str, partition: int, offset: int, *, forward: bool) -> Entry | None:
    """The nearest frame of the device before or from an offset, some way off at most."""
    end = past.log.bounds(FRAMES, partition).end
    records = (
        past.log.read(FRAMES, partition, offset, min(end, offset + FAR))
        if forward
        else backwards(past, FRAMES, partition, offset)
    )
    for record in keyed(records, device):
        entry = entry_of(record, past)
        if isinstance(entry.event, (FrameCaptured, FrameRefused)):
            return entry
    return None


def _progress(past: Past, topic: str, device: str) -> SourcePosition | None:
    """How far the writer of a topic has come in what it reads, by the newest event that says so."""
    partition = partition_by_key(past, topic, device)
    if partition is None:
        return None
    for record in backwards(past, topic, partition, past.log.bounds(topic, partition).end, most=1000):
        source = source_of(entry_of(record, past).event)
        if source is not None:
            return source
    return None


def _checked(past: Past, device: str, spans: dict[int, tuple[int, int]], stories: tuple[Story, ...]) -> tuple[str, ...]:
    read = []
    for partition, (first, stop) in spans.items():
        earliest = past.log.bounds(FRAMES, partition).earliest
        kept = f", kept from {earliest} on" if earliest > 0 else ""
        read.append(f"{partition} offsets {first} to {stop}{kept}")
    counts = [
        f"{sum(getattr(s, part) is not None for s in stories)} {name}"
        for part, name in (("assessment", "assessed"), ("inference", "inferred"), ("result", "derived"))
    ]
    return (
        f"{FRAMES} partitions {'; '.join(read)}: {len(stories)} frames of {device} in the window",
        f"their lineage: {', '.join(counts)}",
    )
