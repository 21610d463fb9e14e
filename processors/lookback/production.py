"""Which release answered in production at a moment, from the log, without reading it from its start.

A promotion's event names all that holds from it on. So the newest one before the moment, and the few events after it,
are the whole answer, however long the log is; where old events do not name it, the log is folded from its start.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from processors.release.state import INITIAL, PipelineReleases, ReleaseEntry, Rollout, fold
from processors.repeats import Seen, writer_of
from schemas.catalogue import RELEASES
from schemas.codec import decode
from schemas.envelope import header
from schemas.errors import ContractError
from schemas.events import ReleasePromoted, ReleaseRolledBack
from schemas.types import ReleaseStep
from streams.events import events_of, newest_first
from streams.past import Past
from streams.records import Record

_FIRST, _MOST = 192, 1024
# A crash repeats at most what one commit gave: 16 commands (`topology.processing`), each with three events at most.
_REPEATED_WITHIN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class InProduction:
    """What answered at a moment. `releases_offset` is how far vision.releases reached then; all is as the log knew it, so that a
    worker took a moment longer to follow."""

    at_us: int
    pipeline: str
    release: str | None
    since_us: int
    by: str
    reason: str
    previous: str | None
    steps: tuple[ReleaseStep, ...]
    parameters: dict[str, float]
    rollout: Rollout | None
    releases_offset: int


def in_production(past: Past, pipeline: str, at_us: int) -> InProduction:
    """Who answered at a moment.

    Raises:
        LogUnavailableError: no answer.
    """
    if 0 not in past.log.partitions(RELEASES):
        return _said(INITIAL, pipeline, at_us, 0)
    stop = past.log.offset_at(RELEASES, 0, at_us // 1000 + 1)
    state = _from_a_promotion(past, pipeline, stop)
    return _said(_from_the_start(past, pipeline, stop) if state is None else state, pipeline, at_us, stop)


def _said(state: PipelineReleases, pipeline: str, at_us: int, stop: int) -> InProduction:
    entry = state.releases.get(state.in_force) if state.in_force is not None else None
    return InProduction(
        at_us=at_us,
        pipeline=pipeline,
        release=state.in_force,
        since_us=state.promoted_at_us,
        by=state.promoted_by,
        reason=state.promoted_reason,
        previous=state.previous,
        steps=entry.steps if entry is not None else (),
        parameters=dict(state.thresholds()),
        rollout=state.rollout,
        releases_offset=stop,
    )


def _from_the_start(past: Past, pipeline: str, stop: int) -> PipelineReleases:
    state, seen = INITIAL, Seen()
    for record, event in events_of(past.log, past.schemas, RELEASES, 0, stop=stop, key=pipeline.encode()):
        if not seen.is_repeat(event, writer_of(record)):
            seen, state = seen.with_event(event, writer_of(record)), fold(state, event)
    return state


def _from_a_promotion(past: Past, pipeline: str, stop: int) -> PipelineReleases | None:
    """The state by the newest promotion that says all; None where there is none."""
    records = _said_first(_back_to_a_promotion(past, pipeline, stop))
    for at in range(len(records) - 1, -1, -1):
        event = _promotion(past, records[at])
        if event is not None:
            return None if event.parameters is None else _after(past, _as_it_says(event), records[at + 1 :])
    return None


def _back_to_a_promotion(past: Past, pipeline: str, stop: int) -> list[Record]:
    """Records of a pipeline in the log's order: from before the newest promotion, as far as one may be said twice."""
    lowest, key = past.log.bounds(RELEASES, 0).earliest, pipeline.encode()
    found: list[Record] = []
    more = None
    for record in newest_first(_read(past), lowest, stop, first=_FIRST, most=_MOST, times=4):
        if more is not None and (more := more - 1) < 0:
            break
        if record.key == key:
            found.append(record)
            if more is None and _is_promotion(record):
                more = _REPEATED_WITHIN
    return found[::-1]


def _read(past: Past) -> Callable[[int, int], Iterator[Record]]:
    return lambda start, stop: past.log.read(RELEASES, 0, start, stop)


def _said_first(records: list[Record]) -> list[Record]:
    """Without what a crash made to be said again: an event has the same id then."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(header(record.headers, "ce_id") or str(record.offset), record)
    return list(first.values())


def _is_promotion(record: Record) -> bool:
    return header(record.headers, "ce_type").rpartition(".")[2] in ("ReleasePromoted", "ReleaseRolledBack")


def _promotion(past: Past, record: Record) -> ReleasePromoted | ReleaseRolledBack | None:
    event = _event(past, record) if _is_promotion(record) else None
    return event if isinstance(event, (ReleasePromoted, ReleaseRolledBack)) else None


def _event(past: Past, record: Record) -> Any:
    try:
        return decode(record.value, RELEASES, past.schemas)
    except ContractError:
        return None


def _as_it_says(event: ReleasePromoted | ReleaseRolledBack) -> PipelineReleases:
    """A state in which all that the promotion names holds, and nothing else is known."""
    overrides = dict(event.overrides or {})
    entry = ReleaseEntry(steps=event.steps, parameters=dict(event.parameters or {}), registered_at_us=0, registered_by="")
    known = replace(INITIAL, releases={event.release: entry}, parameters=overrides)
    return fold(known, event)


def _after(past: Past, state: PipelineReleases, records: list[Record]) -> PipelineReleases:
    for record in records:
        if (event := _event(past, record)) is not None:
            state = fold(state, event)
    return state
