"""What was inferred and still not shown: candidates below threshold, texts that were read otherwise, votes that lost."""

from collections.abc import Iterator
from dataclasses import dataclass

from processors.lookback.explain import LeftOut, left_out_of
from processors.lookback.findings import Asked, Finding, counted, named, places, signs, was_read_by
from processors.lookback.likeness import compact, likeness
from processors.lookback.routing import Routing, Threshold, routing_of
from processors.lookback.votes import PassageVotes, votes_up_to
from processors.lookback.window import Story
from processors.lookback.words import proof, shown
from schemas.events import InferenceCompleted
from schemas.types import Observation, Reading

_FAR_OFF = 10**6
_TOLD_MOST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Below:
    """A candidate of one frame, and how far it is from the expected text."""

    story: Story
    left_out: LeftOut
    distance: int
    near: bool


def below_threshold(asked: Asked) -> list[Finding]:
    """Candidates that the models had and left out: the nearest to the expected text first, else the surest."""
    found = sorted(_below(asked), key=lambda b: (not b.near, b.distance, -b.left_out.score))
    told = found[:_TOLD_MOST]
    return [_told(asked, b, number, len(found)) for number, b in enumerate(told)]


def _below(asked: Asked) -> Iterator[_Below]:
    routed: dict[tuple[str | None, int], Routing] = {}
    for story in _inferred(asked):
        assert story.inference is not None, "asked for inferred frames only"
        event = story.inference.event
        key = (event.release, event.releases_offset)
        if event.candidates and key not in routed:
            routed[key] = routing_of(asked.past, event)
        for left_out in left_out_of(event, routed.get(key)):
            label = left_out.candidate.label
            if asked.expected is None or not label:
                yield _Below(story=story, left_out=left_out, distance=_FAR_OFF, near=asked.expected is None and bool(label))
                continue
            like = likeness(asked.expected, label)
            yield _Below(story=story, left_out=left_out, distance=like.distance, near=like.near)


def _told(asked: Asked, b: _Below, number: int, count: int) -> Finding:
    candidate = b.left_out.candidate
    exact = asked.expected is not None and compact(candidate.label) == compact(asked.expected)
    what = "it" if exact else f'"{shown(candidate.label)}"' if candidate.label else "a place that was never read"
    verb = "read" if candidate.label else "saw"
    says = f"frame #{b.story.sequence} {verb} {what} with {b.left_out.score:.2f}, {_threshold(b.left_out, asked)}"
    if asked.expected is not None and candidate.label and not exact:
        says += f"; it differs from {shown(asked.expected)} in {signs(b.distance)}"
    if (would := _would_read(asked, b.story)) is not None:
        says += f'; above it, the rules would have made of it {would.kind} "{shown(would.label)}" ({proof(would.valid)})'
    more = f" (and {count - 1} more candidates)" if number == 0 and count > 1 else ""
    return Finding(
        reason="below_threshold" if b.near else "other_below_threshold",
        says=says + more,
        evidence=places(b.story.frame, b.story.inference) + _set_at(b.left_out.threshold),
        sequences=(b.story.sequence,),
        explains=b.near if asked.expected is not None else not was_read_by(b.story, None),
        rank=number,
    )


def _threshold(left_out: LeftOut, asked: Asked) -> str:
    t = left_out.threshold
    if t is None:
        return f"left out: {shown(left_out.candidate.reason)}"
    value = t.sent if t.sent is not None else t.in_force
    by = "" if t.set_by is None else f" set by {shown(t.set_by.by)} at {asked.moment(t.set_by.at_us)}"
    return f"below {shown(t.name)}={value:g}{by}"


def _set_at(threshold: Threshold | None) -> tuple:  # type: ignore[type-arg]  # of places
    return () if threshold is None or threshold.set_by is None else (threshold.set_by.position,)


def _would_read(asked: Asked, story: Story) -> Reading | None:
    """What the frame would have voted for, had every candidate that has a text been an observation."""
    if asked.rules is None or story.inference is None:
        return None
    event: InferenceCompleted = story.inference.event
    first = max((o.index for o in event.observations), default=-1) + 1
    more = [c for c in event.candidates if c.label]
    as_seen = tuple(
        Observation(
            index=first + n,
            kind=c.kind,
            label=c.label,
            confidence=c.confidence,
            detection_score=c.detection_score,
            polygon_px=c.polygon_px,
            measures={},
        )
        for n, c in enumerate(more)
    )
    now = asked.rules.ballot(asked.rules.read(event.observations))
    then = asked.rules.ballot(asked.rules.read((*event.observations, *as_seen)))
    return then if then is not None and (now is None or now.label != then.label) else None


def read_differently(asked: Asked) -> list[Finding]:
    """Texts that were read and come near the expected one, and are not it."""
    if asked.expected is None:
        return []
    found = []
    for story in _inferred(asked):
        assert story.inference is not None, "asked for inferred frames only"
        for o in story.inference.event.observations:
            like = likeness(asked.expected, o.label)
            if like.near and compact(o.label) != compact(asked.expected):
                found.append((like.distance, -o.confidence, story, o))
    found.sort(key=lambda f: f[:2])
    out = []
    for number, (distance, _, story, o) in enumerate(found[:_TOLD_MOST]):
        differs = f"differs from {shown(asked.expected)} in {signs(distance)}"
        says = f'frame #{story.sequence} read "{shown(o.label)}" with {o.confidence:.2f}, which {differs}'
        if (reading := _reading_of(story, o.index)) is not None:
            says += f'; the rules took it for {shown(reading.kind)} "{shown(reading.label)}" ({proof(reading.valid)})'
        explains = not was_read_by(story, asked.expected)
        out.append(
            Finding(
                reason="read_differently",
                says=says,
                evidence=places(story.inference, story.result),
                sequences=(story.sequence,),
                explains=explains,
                rank=number,
            )
        )
    return out


def _reading_of(story: Story, index: int) -> Reading | None:
    readings = story.result.event.readings if story.result is not None else ()
    return next((r for r in readings if r.observation_index == index), None)


def outvoted(asked: Asked) -> list[Finding]:
    """Passages in which frames voted for something else than what the passage came to say."""
    if asked.rules is None:
        return []
    out = []
    for votes, last in _passages(asked):
        said = votes.recorded.label
        lost = [v for v in votes.votes if v.label is not None and v.label != said and _is_wanted(v.label, asked)]
        if not lost:
            continue
        tally = ", ".join(f"{shown(t.label)} {t.frames} ({proof(t.valid)})" for t in votes.tally)
        frames, was = counted([v.sequence for v in lost]), "was" if len(lost) == 1 else "were"
        where = f"passage {shown(votes.passage_id)}, which says {shown(said)}"
        says = f"{frames} read {shown(lost[0].label)} and {was} outvoted in {where}: {tally}"
        evidence = tuple(v.position for v in lost[:10]) + places(last.result)
        out.append(
            Finding(
                reason="outvoted",
                says=says,
                evidence=evidence,
                sequences=tuple(v.sequence for v in lost),
                explains=asked.expected is not None,
            )
        )
    return out


def _is_wanted(label: str, asked: Asked) -> bool:
    return asked.expected is None or compact(label) == compact(asked.expected)


def no_vote(asked: Asked) -> list[Finding]:
    """Passages of which every frame was read and none had anything to vote with."""
    if asked.rules is None:
        return []
    out = []
    for votes, last in _passages(asked):
        frames = [
            s for s in _inferred(asked) if s.result is not None and _passage(s) == votes.passage_id and s.result.event.readings
        ]
        if votes.recorded.label is not None or not frames:
            continue
        texts = sorted({r.label for s in frames if s.result is not None for r in s.result.event.readings})
        said = ", ".join(f'"{shown(t)}"' for t in texts[:8])
        ruled = f"the rules {shown(votes.rules)} found nothing to vote with in {said}"
        verb = "was" if len(frames) == 1 else "were"
        says = f"passage {shown(votes.passage_id)} says nothing: {named(frames)} {verb} read, and {ruled}"
        out.append(Finding(reason="no_vote", says=says, evidence=places(*(s.result for s in frames), last.result)))
    return out


def was_read(asked: Asked) -> list[Finding]:
    """What was read in the window: no reason, and worth knowing."""
    hits = [s for s in _inferred(asked) if s.result is not None and was_read_by(s, asked.expected)]
    if not hits:
        return []
    labels = sorted(
        {r.label for s in hits if s.result is not None for r in s.result.event.readings if _is_wanted(r.label, asked)}
    )
    said = ", ".join(f'"{shown(t)}"' for t in labels[:8])
    at = hits[0].result
    assert at is not None, "only frames with a result were chosen"
    says = f"it is not absent: {named(hits)} read {said}; the first result came at {asked.moment(at.place.appended_at_us)}"
    return [
        Finding(
            reason="was_read",
            says=says,
            evidence=places(*(s.result for s in hits)),
            sequences=tuple(s.sequence for s in hits),
            explains=False,
        )
    ]


def saw_nothing(asked: Asked) -> list[Finding]:
    """Frames in which the models saw no text at all, not even a doubtful one."""
    empty = [
        s for s in _inferred(asked) if s.inference and not s.inference.event.observations and not s.inference.event.candidates
    ]
    if not empty:
        return []
    warned = sorted({w for s in empty if s.assessment is not None for w in s.assessment.event.warnings})
    warnings = f"; they were {', '.join(map(shown, warned))}" if warned else ""
    says = f"the models saw nothing in {named(empty)}, not even a candidate{warnings}"
    return [
        Finding(
            reason="saw_nothing",
            says=says,
            evidence=places(*(s.inference for s in empty)),
            sequences=tuple(s.sequence for s in empty),
        )
    ]


def _inferred(asked: Asked) -> Iterator[Story]:
    return (s for s in asked.window.stories if s.inference is not None and isinstance(s.inference.event, InferenceCompleted))


def _passages(asked: Asked) -> Iterator[tuple[PassageVotes, Story]]:
    """Each passage of the window with its votes up to its last frame here, and that frame."""
    last = {_passage(s): s for s in asked.window.stories if _passage(s) is not None}
    for story in last.values():
        assert story.result is not None, "a passage is named by a result"
        votes = votes_up_to(asked.past, story.result, asked.rules)
        if votes is not None:
            yield votes, story


def _passage(story: Story) -> str | None:
    concluded = story.result.event.conclusion if story.result is not None else None
    return None if concluded is None else str(concluded.passage_id)


LOOKS = (below_threshold, read_differently, outvoted, no_vote, saw_nothing, was_read)
