"""Votes of a passage's frames, by whatever rules the pipeline has. Pure.

Each inference gives exactly one `ResultDerived`. When it changes what the passage was last said to be, a
`ResultCorrected` follows; alerts are raised and cleared as the rules want them.

An inference that supersedes another is the same frame's new answer: its vote counts, and the frame is not counted again. The
passage may be too old to be known still; then the result says nothing of it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from processors.redriven import is_counted
from processors.rules.contract import AlertWanted, Rules
from processors.step import Cause
from schemas import ids
from schemas.events import (
    AlertCleared,
    AlertRaised,
    InferenceCompleted,
    InferenceFailed,
    InferenceSkipped,
    ResultCorrected,
    ResultDerived,
)
from schemas.types import Conclusion, Reading, SourcePosition

Inferred = InferenceCompleted | InferenceFailed | InferenceSkipped
Derived = ResultDerived | ResultCorrected | AlertRaised | AlertCleared

_PASSAGES_KEPT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """Frames that vote for one label, and the sum of their confidences."""

    kind: str
    valid: bool | None
    frames: int
    confidence_sum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One passage so far."""

    frames_count: int = 0
    votes: Mapping[str, Votes] = field(default_factory=dict)
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePassages:
    """State of one device: its latest passages, the newest at the end of `order`."""

    passages: Mapping[str, Passage] = field(default_factory=dict)
    order: tuple[str, ...] = ()


INITIAL = DevicePassages()


def decide(rules: Rules, state: DevicePassages, event: Inferred, cause: Cause) -> tuple[Derived, ...]:
    """What follows from one inference."""
    passage_id = rules.passage_of(event.frame)
    before = None if passage_id is None else state.passages.get(passage_id)
    counted = state if is_counted(cause.redriven) else fold(rules, state, event)
    after = None if passage_id is None else counted.passages.get(passage_id)
    concluded = None if passage_id is None or after is None else conclude(passage_id, after)
    results: list[Derived] = [_result(rules, event, concluded, cause)]
    if passage_id is None or after is None or concluded is None:
        return tuple(results)
    if before is not None and (previous := conclude(passage_id, before)).label not in (None, concluded.label):
        results.append(_corrected(rules, event, previous, concluded, cause))
    standing = before.alerts if before is not None else ()
    return (*results, *_alerts(event, passage_id, standing, rules.alerts(concluded), cause))


def fold(rules: Rules, state: DevicePassages, event: Inferred) -> DevicePassages:
    """The frame counted in its passage."""
    passage_id = rules.passage_of(event.frame)
    if passage_id is None:
        return state
    is_again = event.supersedes is not None
    if is_again and passage_id not in state.passages:
        return state
    passage = state.passages.get(passage_id, Passage())
    vote = rules.ballot(_readings(rules, event))
    counted = Passage(frames_count=passage.frames_count + (not is_again), votes=with_vote(passage.votes, vote))
    wanted = tuple(a.kind for a in rules.alerts(conclude(passage_id, counted)))
    counted = Passage(frames_count=counted.frames_count, votes=counted.votes, alerts=wanted)
    order = state.order if is_again else (*(p for p in state.order if p != passage_id), passage_id)[-_PASSAGES_KEPT:]
    passages = {**state.passages, passage_id: counted}
    return DevicePassages(passages={p: passages[p] for p in order}, order=order)


def conclude(passage_id: str, passage: Passage) -> Conclusion:
    """What the votes say: a label that verifies itself before one that does not, then the most votes, then confidence."""
    leading = max(
        passage.votes.items(),
        key=lambda kv: (kv[1].valid is True, kv[1].frames, kv[1].confidence_sum, kv[0]),
        default=None,
    )
    votes = leading[1] if leading is not None else None
    return Conclusion(
        passage_id=passage_id,
        frames_count=passage.frames_count,
        kind=votes.kind if votes is not None else "",
        label=leading[0] if leading is not None else None,
        valid=votes.valid if votes is not None else None,
        confidence=votes.confidence_sum / votes.frames if votes is not None else 0.0,
        votes_for=votes.frames if votes is not None else 0,
        votes_total=sum(v.frames for v in passage.votes.values()),
    )


def with_vote(votes: Mapping[str, Votes], vote: Reading | None) -> Mapping[str, Votes]:
    """The votes with one more counted; None is a frame that does not vote."""
    if vote is None:
        return votes
    old = votes.get(vote.label, Votes(kind=vote.kind, valid=vote.valid, frames=0, confidence_sum=0.0))
    # Rules may say anything, and the state is JSON, which has no NaN and no infinity: such a sum stays as it was.
    total = old.confidence_sum + vote.confidence
    total = total if math.isfinite(total) else old.confidence_sum
    return {**votes, vote.label: Votes(kind=old.kind, valid=old.valid, frames=old.frames + 1, confidence_sum=total)}


def _readings(rules: Rules, event: Inferred) -> tuple[Reading, ...]:
    return rules.read(event.observations) if isinstance(event, InferenceCompleted) else ()


def _result(rules: Rules, event: Inferred, concluded: Conclusion | None, cause: Cause) -> ResultDerived:
    readings = _readings(rules, event)
    match event:
        case InferenceCompleted():
            outcome, detail = ("read" if readings else "nothing_read"), ""
        case InferenceFailed():
            outcome, detail = "failed", f"{event.error_class} in {event.failed_step or 'no named step'}: {event.error_message}"
        case InferenceSkipped():
            outcome, detail = "skipped", event.reason
    return ResultDerived(
        event_id=ids.event_id(cause.position, "ResultDerived"),
        source=cause.position,
        frame=event.frame,
        inference_id=event.event_id,
        pipeline=event.pipeline,
        release=event.release,
        outcome=outcome,
        readings=readings,
        conclusion=concluded,
        rules=f"{rules.NAME}@{rules.VERSION}",
        detail=detail,
        derived_at_us=cause.now_us,
        supersedes=event.supersedes,
    )


def _corrected(rules: Rules, event: Inferred, previous: Conclusion, now: Conclusion, cause: Cause) -> ResultCorrected:
    source = _indexed(cause.position, 1)
    return ResultCorrected(
        event_id=ids.event_id(source, "ResultCorrected"),
        source=source,
        device_id=event.frame.device_id,
        pipeline=event.pipeline,
        frame_id=event.frame.frame_id,
        previous=previous,
        conclusion=now,
        rules=f"{rules.NAME}@{rules.VERSION}",
        derived_at_us=cause.now_us,
    )


def _alerts(
    event: Inferred, passage_id: str, standing: tuple[str, ...], wanted: tuple[AlertWanted, ...], cause: Cause
) -> tuple[AlertRaised | AlertCleared, ...]:
    device = event.frame.device_id
    out: list[AlertRaised | AlertCleared] = []
    for alert in wanted:
        if alert.kind not in standing:
            source = _indexed(cause.position, len(out))
            out.append(
                AlertRaised(
                    event_id=ids.event_id(source, "AlertRaised"),
                    source=source,
                    alert_id=ids.named_id("alert", alert.kind, device, passage_id),
                    subject=device,
                    kind=alert.kind,
                    severity=alert.severity,
                    message=alert.message,
                    frame_id=event.frame.frame_id,
                    passage_id=passage_id,
                    evidence=alert.evidence,
                    raised_at_us=cause.now_us,
                )
            )
    for kind in standing:
        if kind not in {a.kind for a in wanted}:
            source = _indexed(cause.position, len(out))
            out.append(
                AlertCleared(
                    event_id=ids.event_id(source, "AlertCleared"),
                    source=source,
                    alert_id=ids.named_id("alert", kind, device, passage_id),
                    subject=device,
                    kind=kind,
                    reason=f"frame {event.frame.sequence} of the passage settled it",
                    cleared_at_us=cause.now_us,
                )
            )
    return tuple(out)


def _indexed(position: SourcePosition, index: int) -> SourcePosition:
    return SourcePosition(topic=position.topic, partition=position.partition, offset=position.offset, index=index)
