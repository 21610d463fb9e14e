"""Which release read a frame, and by whose decision: the events of vision.releases that the router had read then.

An inference names how far the router had read (`releases_offset`), so what was in force is a fold of exactly that much:
the promotion, the verdict before it if there was one, the pins of every step, and who set each threshold.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.lookback.scan import Entry, Place, entry_of
from processors.repeats import Seen
from schemas.catalogue import RELEASES
from schemas.events import (
    CanaryStarted,
    ReleaseLoaded,
    ReleasePromoted,
    ReleaseRegistered,
    ReleaseRolledBack,
    RolloutJudged,
    ShadowStarted,
    ThresholdChanged,
)
from schemas.types import ReleaseStep
from streams.past import Past


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBy:
    """Who decided, when and why, and where the log says so."""

    event: str
    by: str
    at_us: int
    reason: str
    position: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A parameter: the value sent with the call, the value in force by the log, and who set that."""

    name: str
    sent: float | None
    in_force: float | None
    set_by: SetBy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """How a frame came to its release. `how` is promoted, rolled_back, canary, shadow, none or unknown."""

    pipeline: str
    release: str | None
    releases_offset: int
    how: str
    decided: Entry | None
    verdict: Entry | None
    registered: Entry | None
    loaded: tuple[Entry, ...]
    pins: tuple[ReleaseStep, ...]
    thresholds: tuple[Threshold, ...]


def release_history(past: Past, pipeline: str, stop: int | None = None) -> Iterator[Entry]:
    """Events of one pipeline's releases before an offset, without repeats, oldest first."""
    if 0 not in past.log.partitions(RELEASES):
        return
    bounds = past.log.bounds(RELEASES, 0)
    seen = Seen()
    for record in past.log.read(RELEASES, 0, bounds.earliest, bounds.end if stop is None else min(stop, bounds.end)):
        entry = entry_of(record, past)
        if entry.event is None or entry.event.pipeline != pipeline or seen.is_repeat(entry.event, entry.writer):
            continue
        seen = seen.with_event(entry.event, entry.writer)
        yield entry


def routing_of(past: Past, inference: Any) -> Routing:
    """How an inference (of any of its three kinds) was routed."""
    history = tuple(release_history(past, inference.pipeline, inference.releases_offset))
    release = inference.release
    how, decided = _decision(history, release)
    registered = _last(history, ReleaseRegistered, release)
    sent: Mapping[str, float] = getattr(inference, "parameters", {})
    return Routing(
        pipeline=inference.pipeline,
        release=release,
        releases_offset=inference.releases_offset,
        how=how,
        decided=decided,
        verdict=_verdict(history, decided),
        registered=registered,
        loaded=tuple(e for e in history if isinstance(e.event, ReleaseLoaded) and e.event.release == release),
        pins=registered.event.steps if registered is not None else (),
        thresholds=thresholds_of(history, registered, sent),
    )


def thresholds_of(history: tuple[Entry, ...], registered: Entry | None, sent: Mapping[str, float]) -> tuple[Threshold, ...]:
    """Each parameter with who set it: a change by hand holds over the release's own."""
    by_release: Mapping[str, float] = registered.event.parameters if registered is not None else {}
    changed = {e.event.name: e for e in history if isinstance(e.event, ThresholdChanged)}
    return tuple(
        Threshold(
            name=name,
            sent=sent.get(name),
            in_force=changed[name].event.value if name in changed else by_release.get(name),
            set_by=set_by(changed[name]) if name in changed else set_by(registered) if name in by_release else None,
        )
        for name in sorted({*sent, *by_release, *changed})
    )


def set_by(entry: Entry | None) -> SetBy | None:
    """Who stands behind an event of vision.releases, such as a registration or a change by hand."""
    if entry is None:
        return None
    times = ("changed_at_us", "registered_at_us", "promoted_at_us", "rolled_back_at_us", "started_at_us", "requested_at_us")
    at_us = next((getattr(entry.event, name) for name in times if hasattr(entry.event, name)), entry.place.appended_at_us)
    return SetBy(
        event=entry.type,
        by=getattr(entry.event, "issued_by", ""),
        at_us=at_us,
        reason=getattr(entry.event, "reason", ""),
        position=entry.place,
    )


def _decision(history: tuple[Entry, ...], release: str | None) -> tuple[str, Entry | None]:
    """The event that made this release read: the last one that put any in force, or a rollout beside it."""
    if release is None:
        return "none", None
    last = next((e for e in reversed(history) if isinstance(e.event, (ReleasePromoted, ReleaseRolledBack))), None)
    if last is not None and last.event.release == release:
        return ("promoted" if isinstance(last.event, ReleasePromoted) else "rolled_back"), last
    for kind, how in ((CanaryStarted, "canary"), (ShadowStarted, "shadow")):
        if (started := _last(history, kind, release)) is not None:
            return how, started
    return "unknown", None


def _verdict(history: tuple[Entry, ...], decided: Entry | None) -> Entry | None:
    """The judgement that a decision can rest on: of the release that it is about, since the decision before about that one."""
    if decided is None:
        return None
    is_back = isinstance(decided.event, ReleaseRolledBack)
    judged = decided.event.previous_release if is_back else decided.event.release
    found = None
    for entry in history:
        if entry.place.offset >= decided.place.offset:
            break
        if isinstance(entry.event, RolloutJudged) and entry.event.release == judged:
            found = entry
        elif isinstance(entry.event, (ReleasePromoted, ReleaseRolledBack)):
            about = {entry.event.release, entry.event.previous_release}
            found = None if judged in about else found
    return found


def _last(history: Any, kind: type, release: str | None) -> Entry | None:
    return next(
        (e for e in reversed(history) if isinstance(e.event, kind) and getattr(e.event, "release", None) == release), None
    )
