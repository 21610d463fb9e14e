"""The votes of a passage: which frames were counted, in what order, what each said, and what that adds up to.

Results name what the passage said with them counted, and how many frames that was; so the frames are found by going back
from a result. What each one votes for is asked of the rules again, and the sum is held against what was recorded.
"""

from dataclasses import dataclass

from processors.derive.core import Passage, conclude, with_vote
from processors.lookback.scan import Entry, Place, backwards, entry_of, is_type, keyed
from processors.rules.contract import Rules
from schemas.catalogue import RESULTS
from schemas.events import ResultDerived
from schemas.types import Conclusion, Reading
from streams.past import Past

_COPIES_WITHIN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One frame of the passage; `number` is its place in the count, from 1, and `readings` are all texts that it read.

    Without a vote, `label` is None.
    """

    number: int
    position: Place
    result_id: str
    frame_id: str
    sequence: int
    outcome: str
    readings: tuple[str, ...]
    label: str | None
    kind: str
    valid: bool | None
    confidence: float
    is_asked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One label and its votes."""

    label: str
    kind: str
    valid: bool | None
    frames: int
    confidence_mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageVotes:
    """A passage up to one result. `agrees`: whether the votes give what was recorded; None when they cannot be counted."""

    passage_id: str
    rules: str
    recorded: Conclusion
    votes: tuple[Vote, ...]
    tally: tuple[Tally, ...]
    agrees: bool | None
    note: str


def votes_up_to(past: Past, result: Entry, rules: Rules | None) -> PassageVotes | None:
    """The votes counted when this result was derived; None when its frame stands alone.

    Args:
        result: A `ResultDerived`.
        rules: The rules to ask for each frame's vote; their name and version must be the recorded ones.
    """
    event = result.event
    if not isinstance(event, ResultDerived) or event.conclusion is None:
        return None
    frames = _frames(past, result, event.conclusion)
    usable = rules if rules is not None and f"{rules.NAME}@{rules.VERSION}" == event.rules else None
    ballots = [usable.ballot(e.event.readings) if usable is not None else None for e in frames]
    first = event.conclusion.frames_count - len(frames) + 1
    votes = tuple(_vote(number, e, b, result) for number, (e, b) in enumerate(zip(frames, ballots, strict=True), start=first))
    passage = Passage(frames_count=len(frames))
    for ballot in ballots:
        passage = Passage(frames_count=passage.frames_count, votes=with_vote(passage.votes, ballot))
    complete = len(frames) == event.conclusion.frames_count
    countable = complete and usable is not None
    return PassageVotes(
        passage_id=event.conclusion.passage_id,
        rules=event.rules,
        recorded=event.conclusion,
        votes=votes,
        tally=_tally(passage),
        agrees=conclude(event.conclusion.passage_id, passage) == event.conclusion if countable else None,
        note=_note(event, len(frames), rules),
    )


def _frames(past: Past, result: Entry, concluded: Conclusion) -> tuple[Entry, ...]:
    """The passage's results that were counted, oldest first: as many as the result says, going back from it."""
    found: dict[str, Entry] = {}
    superseded: set[str] = set()
    since = 0
    place = result.place
    for record in keyed(backwards(past, RESULTS, place.partition, place.offset + 1), result.event.frame.device_id):
        since += len(found) >= concluded.frames_count
        if since > _COPIES_WITHIN:
            break
        if not is_type(record, "ResultDerived"):
            continue
        entry = entry_of(record, past)
        of = getattr(entry.event, "conclusion", None)
        if of is None or of.passage_id != concluded.passage_id:
            continue
        if entry.event.supersedes is not None:
            superseded.add(entry.event.supersedes.inference_id)
        if entry.event.inference_id in superseded:
            continue  # a redriven frame's failure, which does not count any more
        if entry.event_id in found or len(found) < concluded.frames_count:
            found[entry.event_id] = entry
    return tuple(sorted(found.values(), key=lambda e: e.place.offset))


def _vote(number: int, entry: Entry, ballot: Reading | None, asked: Entry) -> Vote:
    return Vote(
        number=number,
        position=entry.place,
        result_id=entry.event_id,
        frame_id=entry.event.frame.frame_id,
        sequence=entry.event.frame.sequence,
        outcome=entry.event.outcome,
        readings=tuple(r.label for r in entry.event.readings),
        label=ballot.label if ballot is not None else None,
        kind=ballot.kind if ballot is not None else "",
        valid=ballot.valid if ballot is not None else None,
        confidence=ballot.confidence if ballot is not None else 0.0,
        is_asked=entry.event_id == asked.event_id,
    )


def _tally(passage: Passage) -> tuple[Tally, ...]:
    """Labels, the leading one first, by the rule of `conclude`."""
    votes, ranked = dict(passage.votes), []
    while votes:
        label = conclude("", Passage(votes=votes)).label
        assert label is not None, "where there are votes one leads"
        v = votes.pop(label)
        ranked.append(
            Tally(label=label, kind=v.kind, valid=v.valid, frames=v.frames, confidence_mean=v.confidence_sum / v.frames)
        )
    return tuple(ranked)


def _note(event: ResultDerived, found: int, rules: Rules | None) -> str:
    assert event.conclusion is not None, "asked only for results of a passage"
    notes = []
    if found < event.conclusion.frames_count:
        notes.append(f"{event.conclusion.frames_count - found} earlier frames of the passage are not kept")
    if rules is None:
        notes.append("no rules are at hand, so the frames' votes are not shown")
    elif (at_hand := f"{rules.NAME}@{rules.VERSION}") != event.rules:
        notes.append(f"it was derived by {event.rules}, and the rules at hand are {at_hand}, so the frames' votes are not shown")
    return "; ".join(notes)
