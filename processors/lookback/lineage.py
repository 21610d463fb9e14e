"""One frame's way through the log: captured, assessed, inferred, derived, and what followed from it.

Upwards each event names the record that caused it; downwards the records are found by the id of their cause. The first
copy of each event counts. What the log does not hold (any more) is named in `missing`, and the rest is still told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from processors.lookback.letters import DeadLetter, letters_of
from processors.lookback.redone import Redone
from processors.lookback.scan import (
    FAR,
    Entry,
    backwards,
    caused_by,
    entry_at,
    entry_of,
    header_bytes,
    partition_by_key,
    place_of,
    start_of,
)
from processors.lookback.words import shown
from processors.repeats import source_of
from processors.views.alarms import CHECKS
from schemas import ids
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, MONITORING, RESULTS
from schemas.errors import ContractError
from schemas.events import AlertCleared, AlertRaised, FrameRejected, ResultCorrected, ResultDerived
from schemas.types import FrameRef
from streams.past import Past

_EARLIER_MOST = 20_000
_UPWARDS = {RESULTS: INFERENCES, MONITORING: INFERENCES, INFERENCES: ASSESSMENTS, ASSESSMENTS: FRAMES}
_PERHAPS_SEEN_BEFORE = {"repeated", "too_late"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A part that cannot be shown, and why."""

    part: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Everything that belongs to one frame; a part is None when it never was or is not kept, and `missing` says which."""

    frame: Entry | None = None
    assessment: Entry | None = None
    inference: Entry | None = None
    result: Entry | None = None
    corrections: tuple[Entry, ...] = ()
    alerts: tuple[Entry, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    missing: tuple[Missing, ...] = field(default=())

    def parts(self) -> tuple[Entry, ...]:
        """Every event that is there, in the order of the pipeline."""
        chain = (self.frame, self.assessment, self.inference, self.result)
        return (*(e for e in chain if e is not None), *self.corrections, *self.alerts)

    def frame_ref(self) -> FrameRef:
        """The frame, as any of its events names it.

        Raises:
            ContractError: no event of it can be read.
        """
        for entry in self.parts():
            if hasattr(entry.event, "frame"):
                found: FrameRef = entry.event.frame
                return found
        raise ContractError("no event of this frame can be read")


def lineage_of(past: Past, entry: Entry) -> Lineage:
    """The whole lineage of the frame that an event belongs to.

    Raises:
        ContractError: the event belongs to no frame, or cannot be decoded.
        LogUnavailableError: the log does not answer.
    """
    if entry.event is None:
        raise ContractError(f"{entry.place} cannot be read: {entry.unreadable}")
    if isinstance(entry.event, (AlertRaised, AlertCleared)) and not _is_of_a_frame(entry):
        raise ContractError(
            f"{entry.place} is an alert about {shown(entry.event.subject)}, which no frame raised: {_said(entry.event)}",
            do="`hindsight at` shows what stands; `hindsight views check` holds views against the log",
        )
    if not _belongs_to_a_frame(entry):
        raise ContractError(
            f"{entry.place} is a {entry.type}, which belongs to no frame",
            do="explain takes a frame, a result, an alert, or any event between them; see `hindsight releases history`",
        )
    return _downwards(past, _upwards(past, entry))


def _belongs_to_a_frame(entry: Entry) -> bool:
    return hasattr(entry.event, "frame") or isinstance(entry.event, (ResultCorrected, AlertRaised, AlertCleared))


def _is_of_a_frame(alert: Entry) -> bool:
    """Whether a frame raised or cleared it. Checks of views name a record too, the last one that the view reflected."""
    if isinstance(alert.event, AlertRaised):
        return alert.event.frame_id is not None
    return not alert.writer.startswith(CHECKS)


def _said(alert: AlertRaised | AlertCleared) -> str:
    evidence = ", ".join(f"{name}={value}" for name, value in alert.evidence.items()) if isinstance(alert, AlertRaised) else ""
    return shown(f"{alert.message} ({evidence})" if isinstance(alert, AlertRaised) else f"{alert.kind} cleared: {alert.reason}")


def _upwards(past: Past, entry: Entry) -> Mapping[str, Entry | None]:
    """The events above, by topic, the asked one included; None where a named record is not there."""
    found: dict[str, Entry | None] = {entry.place.topic: entry}
    at = entry
    while at.place.topic in _UPWARDS:
        source = source_of(at.event)
        topic = _UPWARDS[at.place.topic]
        above = None if source is None else entry_at(past, source.topic, source.partition, source.offset)
        found[topic] = above
        if above is None or above.event is None:
            break
        at = above
    if found.get(FRAMES) is None:
        found[FRAMES] = _by_frame_id(past, at)
    return _first_copy(past, found)


def _first_copy(past: Past, found: Mapping[str, Entry | None]) -> Mapping[str, Entry | None]:
    """A frame that was sent again was rejected as repeated; what counts is the copy that came first."""
    rejected, frame = found.get(ASSESSMENTS), found.get(FRAMES)
    is_repeat = rejected is not None and _is_repeat(rejected)
    if frame is None or not (is_repeat or len(found) == 1):
        return found
    earlier = _by_frame_id(past, frame)
    return {FRAMES: earlier} if earlier is not None else found


def _is_repeat(entry: Entry) -> bool:
    return isinstance(entry.event, FrameRejected) and bool(_PERHAPS_SEEN_BEFORE & set(entry.event.reasons))


def _by_frame_id(past: Past, below: Entry) -> Entry | None:
    """The first record of the frame at or before another of its records, some way back; by its id, since no source names it.

    Frames lie where whoever sent them put them: where our own hash would have, or on any other partition.
    """
    if not hasattr(below.event, "frame"):
        return None
    if below.place.topic == FRAMES:
        return _first_with_frame_id(past, below, below.place.partition, below.place.offset)
    by_key = partition_by_key(past, FRAMES, below.key)
    for partition in sorted(past.log.partitions(FRAMES), key=lambda p: (p != by_key, p)):
        stop = start_of(past, FRAMES, partition, below.place.appended_at_us + 10**7)
        if (found := _first_with_frame_id(past, below, partition, stop)) is not None:
            return found
    return None


def _first_with_frame_id(past: Past, below: Entry, partition: int, stop: int) -> Entry | None:
    frame_id = below.event.frame.frame_id
    wanted, known = frame_id.encode(), ids.captured_id(frame_id).encode()
    found = None
    for record in backwards(past, FRAMES, partition, stop, most=_EARLIER_MOST):
        if header_bytes(record, "ce_correlationid") == wanted or header_bytes(record, "ce_id") == known:
            found = record
    return None if found is None else entry_of(found, past)


def _downwards(past: Past, above: Mapping[str, Entry | None]) -> Lineage:
    frame = _with_resent(past, above.get(FRAMES))
    redone = Redone(past)
    assessment = _next(past, redone, ASSESSMENTS, frame, above.get(ASSESSMENTS))
    inference = _newest(past, assessment, _next(past, redone, INFERENCES, assessment, above.get(INFERENCES)))
    caused = () if inference is None else redone.caused(RESULTS, [inference])[inference.event_id]
    result = next((e for e in caused if isinstance(e.event, ResultDerived)), above.get(RESULTS))
    if result is not None and not isinstance(result.event, ResultDerived):
        result = None
    chain = Lineage(
        frame=frame,
        assessment=assessment,
        inference=inference,
        result=result,
        corrections=tuple(e for e in caused if isinstance(e.event, ResultCorrected)),
        alerts=_alerts(past, inference, above.get(MONITORING)),
    )
    letters = [
        letter for entry in (frame, assessment, inference) if entry is not None for letter in letters_of(past, entry.place)
    ]
    return replace(chain, dead_letters=tuple(letters), missing=tuple(_missing(past, chain)))


def _with_resent(past: Past, frame: Entry | None) -> Entry | None:
    """The frame with the places where its device sent it again."""
    if frame is None or not frame.event_id:
        return frame
    start, end = frame.place.offset + 1, past.log.bounds(FRAMES, frame.place.partition).end
    wanted, following = frame.event_id.encode(), past.log.read(FRAMES, frame.place.partition, start, min(end, start + 1000))
    return replace(frame, repeats=tuple(place_of(r) for r in following if header_bytes(r, "ce_id") == wanted))


def _next(past: Past, redone: Redone, topic: str, cause: Entry | None, known: Entry | None) -> Entry | None:
    """The first event that a cause led to on a topic; the known one when the cause is gone or its offspring is not found."""
    if cause is None or cause.event is None:
        return known
    own = redone.caused(topic, [cause])[cause.event_id]
    if not own:
        return known
    caused = () if redone.last(cause) is not cause else caused_by(past, topic, [cause])[cause.event_id]
    others = tuple(e.place for e in caused if e.place != own[0].place)
    return replace(own[0], repeats=(*own[0].repeats, *others))


def _newest(past: Past, assessment: Entry | None, inference: Entry | None) -> Entry | None:
    """The answer that counts: a redriven frame has a failed one, and one that supersedes it."""
    if assessment is None or assessment.event is None or inference is None:
        return inference
    superseding = {
        e.event.supersedes.inference_id: e
        for e in caused_by(past, INFERENCES, [assessment])[assessment.event_id]
        if getattr(e.event, "supersedes", None) is not None
    }
    while (newer := superseding.pop(inference.event_id, None)) is not None:
        inference = newer
    return inference


def _alerts(past: Past, inference: Entry | None, asked: Entry | None) -> tuple[Entry, ...]:
    """Alerts that the frame raised or cleared, and the asked one; a raised one with the event that cleared it later."""
    found = list(() if inference is None else caused_by(past, MONITORING, [inference])[inference.event_id])
    if asked is not None and all(e.event_id != asked.event_id for e in found):
        found.append(asked)
    for raised in [e for e in found if isinstance(e.event, AlertRaised)]:
        cleared = _clearing(past, raised)
        if cleared is not None and all(e.event_id != cleared.event_id for e in found):
            found.append(cleared)
    return tuple(found)


def _clearing(past: Past, raised: Entry) -> Entry | None:
    """What cleared an alert, if anything did."""
    start = raised.place.offset + 1
    stop = min(past.log.bounds(MONITORING, raised.place.partition).end, start + FAR)
    subject = raised.event.subject.encode()
    for record in past.log.read(MONITORING, raised.place.partition, start, stop):
        if record.key == subject and header_bytes(record, "ce_type").endswith(b".AlertCleared"):
            entry = entry_of(record, past)
            if entry.event is not None and entry.event.alert_id == raised.event.alert_id:
                return entry
    return None


def _missing(past: Past, chain: Lineage) -> list[Missing]:
    """Parts that should be there and are not, told apart: not kept any more, or not made yet."""
    found: list[Missing] = []
    if chain.frame is None:
        found.append(Missing(part="frame", why=_why_no_source(past, FRAMES, chain.assessment)))
    if chain.assessment is None:
        found.append(Missing(part="assessment", why=_why_not_there(past, ASSESSMENTS, chain.frame, chain.inference)))
    rejected = chain.assessment is not None and isinstance(chain.assessment.event, FrameRejected)
    if chain.inference is None and chain.assessment is not None and not rejected:
        found.append(Missing(part="inference", why=_why_not_there(past, INFERENCES, chain.assessment, chain.result)))
    if chain.result is None and chain.inference is not None:
        found.append(Missing(part="result", why=_why_not_there(past, RESULTS, chain.inference, None)))
    return found


def _why_no_source(past: Past, topic: str, below: Entry | None) -> str:
    source = source_of(below.event) if below is not None else None
    if source is None:
        return f"no record of it was found on {topic}"
    return f"{source.topic}/{source.partition}/{source.offset} is not in {past.source}{_kept(past, topic, source.partition)}"


def _why_not_there(past: Past, topic: str, cause: Entry | None, below: Entry | None) -> str:
    if cause is None or below is not None:
        return _why_no_source(past, topic, below)
    partition = partition_by_key(past, topic, cause.key)
    if partition is None:
        return f"{past.source} holds no partition of {topic} for {cause.key}"
    kept = _kept(past, topic, partition)
    return kept.removeprefix("; ") if kept else f"{topic} has nothing that {cause.place} caused, up to its end"


def _kept(past: Past, topic: str, partition: int) -> str:
    if partition not in past.log.partitions(topic):
        return f"; it holds no partition {partition} of {topic}"
    earliest = past.log.bounds(topic, partition).earliest
    return f"; {topic}/{partition} is kept from offset {earliest} on" if earliest > 0 else ""
