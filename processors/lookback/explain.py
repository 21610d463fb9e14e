"""Why the system said what it said of a frame: its whole lineage as one value, of which text, JSON and a page are made.

`Explanation` as plain JSON (`schemas.plain.to_plain`) is a stable shape: fields may be added, none is renamed or removed.
Every event in it is a `Node`, whose `content` is the event as documented in docs/reference/events.md. Reads only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.lookback.letters import DeadLetter
from processors.lookback.lineage import Lineage, Missing, lineage_of
from processors.lookback.routing import Routing, SetBy, Threshold, routing_of, set_by
from processors.lookback.scan import Entry, Place, Say
from processors.lookback.search import find
from processors.lookback.votes import PassageVotes, votes_up_to
from processors.rules.contract import Rules
from schemas.errors import ContractError, TransientError
from schemas.events import FrameRefused, InferenceCompleted
from schemas.plain import to_plain
from schemas.types import Candidate, FrameRef, ReleaseStep, StepReport
from streams.past import Past


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One event: what it is, where it lies first, who wrote it, later copies of it, and its content."""

    event: str
    event_id: str
    position: Place
    written_by: str
    trace_id: str
    repeats: tuple[Place, ...]
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """What one step of the ensemble did, beside what the release pins. `as_pinned` is None where one of them says nothing."""

    ran: StepReport
    pinned: ReleaseStep | None
    as_pinned: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A candidate below threshold: the score that fell short, and the threshold with who set it."""

    candidate: Candidate
    score: float
    threshold: Threshold | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The release that read the frame, and by whose decision."""

    pipeline: str
    release: str | None
    releases_offset: int
    how: str
    decided: SetBy | None
    previous: str | None
    verdict: Node | None
    registered: SetBy | None
    loaded: tuple[Node, ...]
    pins: tuple[ReleaseStep, ...]
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The lineage of one frame. A part that is None never was, or is named in `missing` with the reason.

    `blob_gone` says why the frame's bytes are not there; empty when they are.
    """

    source: str
    target: str
    asked_event: str
    asked_position: Place
    frame_ref: FrameRef
    trace_ids: tuple[str, ...]
    frame: Node | None
    assessment: Node | None
    inference: Node | None
    release: Release | None
    steps: tuple[StepRun, ...]
    left_out: tuple[LeftOut, ...]
    result: Node | None
    passage: PassageVotes | None
    corrections: tuple[Node, ...]
    alerts: tuple[Node, ...]
    dead_letters: tuple[DeadLetter, ...]
    missing: tuple[Missing, ...]
    blob_gone: str


def explain(
    past: Past,
    target: str,
    *,
    rules: Rules | None = None,
    device: str | None = None,
    at_us: int | None = None,
    say: Say = lambda _: None,
) -> Explanation:
    """The whole lineage of a frame, a result or an alert.

    Args:
        target: An event's, frame's or alert's id, or `topic/partition/offset`.
        rules: What to ask for each frame's vote in the passage.
        device: Look for the id on this device's partitions only.
        at_us: Look for the id around this moment first.
        say: Told how far a long search is.
    Raises:
        ContractError: there is no such record, or it belongs to no frame.
        LogUnavailableError: the log does not answer.
    """
    asked = find(past, target, device=device, at_us=at_us, say=say)
    chain = lineage_of(past, asked)
    inference = chain.inference.event if chain.inference is not None else None
    routing = routing_of(past, inference) if inference is not None else None
    return Explanation(
        source=past.source,
        target=target,
        asked_event=asked.type,
        asked_position=asked.place,
        frame_ref=chain.frame_ref(),
        trace_ids=tuple(sorted({e.trace_id for e in chain.parts() if e.trace_id})),
        frame=_node(chain.frame),
        assessment=_node(chain.assessment),
        inference=_node(chain.inference),
        release=_release(routing),
        steps=_steps(inference, routing),
        left_out=left_out_of(inference, routing),
        result=_node(chain.result),
        passage=votes_up_to(past, chain.result, rules) if chain.result is not None else None,
        corrections=_nodes(chain.corrections),
        alerts=_nodes(chain.alerts),
        dead_letters=chain.dead_letters,
        missing=_missing(chain, routing),
        blob_gone=_blob_gone(past, chain),
    )


def _blob_gone(past: Past, chain: Lineage) -> str:
    if chain.frame is not None and isinstance(chain.frame.event, FrameRefused):
        return "the door kept no bytes of a frame that it refused"
    blob = chain.frame_ref().blob
    try:
        if not past.blobs.exists(blob):
            past.blobs.get(blob)  # says why it is not there
    except (ContractError, TransientError) as error:
        return str(error)
    return ""


def left_out_of(inference: Any, routing: Routing | None) -> tuple[LeftOut, ...]:
    """Candidates of an inference, each with the threshold that its reason names."""
    if not isinstance(inference, InferenceCompleted) or routing is None:
        return ()
    by_name = {t.name: t for t in routing.thresholds}
    return tuple(_left_out(c, by_name) for c in inference.candidates)


def _left_out(candidate: Candidate, by_name: Mapping[str, Threshold]) -> LeftOut:
    """Ensembles write the threshold's name into the reason; the detector's score is meant where the reason says so."""
    words = re.findall(r"\w+", candidate.reason)
    threshold = next((by_name[word] for word in words if word in by_name), None)
    by_detector = "detection_score" in words or not candidate.label
    return LeftOut(
        candidate=candidate, score=candidate.detection_score if by_detector else candidate.confidence, threshold=threshold
    )


def _node(entry: Entry | None) -> Node | None:
    if entry is None:
        return None
    return Node(
        event=entry.type,
        event_id=entry.event_id,
        position=entry.place,
        written_by=entry.writer,
        trace_id=entry.trace_id,
        repeats=entry.repeats,
        content=to_plain(entry.event) if entry.event is not None else {"unreadable": entry.unreadable},
    )


def _nodes(entries: tuple[Entry, ...]) -> tuple[Node, ...]:
    return tuple(node for entry in entries if (node := _node(entry)) is not None)


def _release(routing: Routing | None) -> Release | None:
    if routing is None:
        return None
    decided, registered = routing.decided, routing.registered
    return Release(
        pipeline=routing.pipeline,
        release=routing.release,
        releases_offset=routing.releases_offset,
        how=routing.how,
        decided=set_by(decided),
        previous=getattr(decided.event, "previous_release", None) if decided is not None else None,
        verdict=_node(routing.verdict),
        registered=set_by(registered),
        loaded=_nodes(routing.loaded),
        pins=routing.pins,
        thresholds=routing.thresholds,
    )


def _steps(inference: Any, routing: Routing | None) -> tuple[StepRun, ...]:
    if not isinstance(inference, InferenceCompleted):
        return ()
    pins = {p.step: p for p in routing.pins} if routing is not None else {}
    return tuple(StepRun(ran=s, pinned=pins.get(s.step), as_pinned=_as_pinned(s, pins.get(s.step))) for s in inference.steps)


def _as_pinned(ran: StepReport, pin: ReleaseStep | None) -> bool | None:
    if pin is None or (ran.digest is None and (ran.model, ran.version) == (pin.model, pin.version)):
        return None
    return (ran.model, ran.version, ran.digest) == (pin.model, pin.version, pin.digest)


def _missing(chain: Lineage, routing: Routing | None) -> tuple[Missing, ...]:
    missing = list(chain.missing)
    if routing is None:
        return tuple(missing)
    where = f"the events of vision.releases before offset {routing.releases_offset}"
    if routing.release is not None and routing.decided is None:
        missing.append(Missing(part="decision", why=f"{where} do not say what put {routing.release} in force"))
    if routing.release is not None and routing.registered is None:
        missing.append(Missing(part="registration", why=f"{where} do not say what {routing.release} pins"))
    return tuple(missing)
