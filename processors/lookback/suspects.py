"""What else changed where results changed: promotions, thresholds, restarts, loads, runtimes, drift.

Inferences name how far the router had read vision.releases, so an event of releases is placed between two results exactly,
and not by comparing clocks. A detector of drift sees a change only after a while, so what it reports up to some minutes later is
named too, as late.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from processors.lookback.passages import gains
from processors.lookback.routing import release_history, set_by
from processors.lookback.sampling import Row
from processors.lookback.scan import Entry, Place, entry_of, is_type, start_of
from processors.lookback.words import shown
from schemas.catalogue import MONITORING
from schemas.events import (
    CanaryAdvanced,
    CanaryStarted,
    DriftDetected,
    ReleaseLoaded,
    ReleaseLoadFailed,
    ReleasePromoted,
    ReleaseRolledBack,
    RolloutEnded,
    ThresholdChanged,
)
from streams.past import Past

# A change that explains the data this much worse than the best place to cut, as a logarithm, is still a suspect.
_LOSS_MOST = 4.0
_AROUND_US = 60_000_000
_LATE_MOST_US = 900_000_000
_DRIFTS_MOST = 5000
_WEIGHTY = (ReleasePromoted, ReleaseRolledBack, ThresholdChanged, CanaryStarted, CanaryAdvanced, RolloutEnded)
_TOLD = (*_WEIGHTY, ReleaseLoaded, ReleaseLoadFailed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """Something that changed together with the results. `loss` is 0 where the results changed at that very place.

    `late_us` is how long after the results changed it was reported, when it lies too far from there to have been at that place.
    """

    kind: str
    says: str
    loss: float
    late_us: int = 0
    evidence: tuple[Place, ...]


def suspects(past: Past, pipeline: str, rows: Sequence[Row]) -> tuple[Suspect, ...]:
    """What changed between two neighbouring rows at or near the best cut, the likeliest first."""
    gained = gains(rows)
    best = max(gained)
    events = {e.place.offset: e for e in release_history(past, pipeline)} if rows else {}
    found: dict[tuple[str, str], tuple[int, Suspect]] = {}
    for at, weight, suspect in (*_changes(rows, events), *_drifts(past, rows, gained)):
        loss = best - gained[at]
        key = (suspect.kind, suspect.says)
        if (loss <= _LOSS_MOST or suspect.late_us) and (key not in found or loss < found[key][1].loss):
            found[key] = weight, suspect if suspect.late_us else replace(suspect, loss=loss)
    ranked = sorted(found.values(), key=lambda ws: (ws[1].late_us, round(ws[1].loss, 3), ws[0], ws[1].says))
    return tuple(suspect for _, suspect in ranked)


def _changes(rows: Sequence[Row], events: dict[int, Entry]) -> Iterator[tuple[int, int, Suspect]]:
    """Each difference between a row and the one before it, in its partition or of its device, with its weight."""
    by_partition: dict[int, Row] = {}
    by_device: dict[str, Row] = {}
    for at, row in enumerate(rows):
        before = by_partition.get(row.place.partition)
        if before is not None:
            yield from ((at, w, s) for w, s in _differences(before, row, events))
        mine = by_device.get(row.device)
        if mine is not None and mine.session != row.session:
            says = f"{shown(row.device)} began session {shown(row.session)} at #{row.sequence}; before it {shown(mine.session)}"
            yield at, 1, _suspect("DeviceRestarted", says, mine, row)
        by_partition[row.place.partition] = by_device[row.device] = row


def _differences(a: Row, b: Row, events: dict[int, Entry]) -> Iterator[tuple[int, Suspect]]:
    if 0 <= a.releases_offset < b.releases_offset:
        for offset in range(a.releases_offset, b.releases_offset):
            if (entry := events.get(offset)) is not None and isinstance(entry.event, _TOLD):
                says = _release_event(entry)
                places = (entry.place, a.place, b.place)
                kind = entry.type
                yield 0 if isinstance(entry.event, _WEIGHTY) else 4, Suspect(kind=kind, says=says, loss=0, evidence=places)
    elif a.release != b.release:
        yield 0, _suspect("ReleaseChanged", f"release {shown(a.release)} becomes {shown(b.release)}", a, b)
    if a.runtime and b.runtime and a.runtime != b.runtime:
        names = sorted(n for n in {*a.runtime, *b.runtime} if a.runtime.get(n) != b.runtime.get(n))
        parts = [f"{shown(n)} {shown(a.runtime.get(n, '-'))} becomes {shown(b.runtime.get(n, '-'))}" for n in names[:8]]
        yield 1, _suspect("RuntimeChanged", f"the runtime changed: {', '.join(parts)}", a, b)
    if a.rules != b.rules:
        yield 1, _suspect("RulesChanged", f"rules {shown(a.rules)} become {shown(b.rules)}", a, b)
    if a.endpoint and b.endpoint and a.endpoint != b.endpoint:
        yield 3, _suspect("EndpointChanged", f"inference server {shown(a.endpoint)} becomes {shown(b.endpoint)}", a, b)


def _release_event(entry: Entry) -> str:
    event, who = entry.event, set_by(entry)
    by = f" by {shown(who.by)}" if who is not None and who.by else ""
    why = f": {shown(who.reason)}" if who is not None and who.reason else ""
    match event:
        case ThresholdChanged():
            before = "unset" if event.previous_value is None else f"{event.previous_value:g}"
            return f"{shown(event.name)} was changed from {before} to {event.value:g}{by}{why}"
        case ReleasePromoted():
            return f"{shown(event.release)} was promoted{by}{why}; before it {shown(event.previous_release)}"
        case ReleaseRolledBack():
            return f"{shown(event.previous_release)} was rolled back to {shown(event.release)}{by}{why}"
        case CanaryStarted():
            return f"{shown(event.release)} began to read {event.percent:g} % of the frames{by}{why}"
        case CanaryAdvanced():
            return f"{shown(event.release)} began to read {event.percent:g} % of the frames, before {event.previous_percent:g} %"
        case RolloutEnded():
            return f"the {shown(event.kind)} of {shown(event.release)} ended, {shown(event.outcome)}{by}{why}"
        case ReleaseLoadFailed():
            return f"{shown(event.release)} could not be loaded on {shown(event.endpoint)}: {shown(event.error_message)}"
        case _:
            return f"{shown(event.release)} was loaded on {shown(event.endpoint)}"


def _drifts(past: Past, rows: Sequence[Row], gained: Sequence[float]) -> Iterator[tuple[int, int, Suspect]]:
    """Drift of a device or release that the rows are of: around the best cut, or reported late."""
    if not rows:
        return
    cut = rows[min(max(range(len(gained)), key=gained.__getitem__), len(rows) - 1)].place.appended_at_us
    subjects = {s for r in rows for s in (r.device, r.release)}
    for entry in _drifts_between(past, cut - _AROUND_US, cut + _LATE_MOST_US):
        event, when = entry.event, entry.place.appended_at_us
        if not isinstance(event, DriftDetected) or event.subject not in subjects:
            continue
        at = next((n for n, r in enumerate(rows) if r.place.appended_at_us > when), len(rows))
        loss, late_us = max(gained) - gained[at], when - cut
        said = f"{event.measure} of {event.subject} drifted ({event.test} {event.statistic:g})"
        if loss <= _LOSS_MOST or late_us < 0:
            yield at, 2, Suspect(kind=entry.type, says=shown(said), loss=loss, evidence=(entry.place,))
        else:
            says = f"{shown(said)}, reported {late_us / 1_000_000:.1f} s after the results changed"
            yield at, 2, Suspect(kind=entry.type, says=says, loss=loss, late_us=late_us, evidence=(entry.place,))


def _drifts_between(past: Past, from_us: int, to_us: int) -> Iterator[Entry]:
    for partition in past.log.partitions(MONITORING):
        start = start_of(past, MONITORING, partition, from_us)
        stop = past.log.offset_at(MONITORING, partition, to_us // 1000 + 1)
        for record in past.log.read(MONITORING, partition, start, min(stop, start + _DRIFTS_MOST)):
            if is_type(record, "DriftDetected"):
                yield entry_of(record, past)


def _suspect(kind: str, says: str, before: Row, after: Row) -> Suspect:
    return Suspect(kind=kind, says=says, loss=0, evidence=(before.place, after.place))
