"""What a bisection answers: where results changed, by how much, and what else changed there.

`bisect` searches; here is what it found put together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from processors.lookback.passages import first_change, passages_count, share
from processors.lookback.rates import Rate
from processors.lookback.sampling import Row, Sampler
from processors.lookback.scan import Place
from processors.lookback.suspects import Suspect, suspects
from streams.past import Past


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstDiffering:
    """The first result of the new kind."""

    position: Place
    result_id: str
    frame_id: str
    device: str
    sequence: int
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """Where results changed. `found` is False when they did not; then `before` is the share of them all.

    `is_weak` says that frames did change, of too few passages to prove it; then the rest is filled, and `found` is False.

    `records_read` counts what was read of `records_count` results with as many inferences.
    """

    source: str
    where: str
    device: str | None
    from_us: int
    to_us: int
    found: bool
    is_weak: bool
    verdict: str
    before: Rate
    after: Rate | None
    last_before: Place | None
    first_after: Place | None
    first_differing: FirstDiffering | None
    suspects: tuple[Suspect, ...]
    changes_again: bool
    records_read: int
    records_count: int


def same(past: Past, sampler: Sampler, rows: list[Row]) -> Bisection:
    """No change was found."""
    whole = share(rows)
    verdict = f"no change was found: it holds for {_shown(whole)}" if whole.count else "there are no results in the window"
    return Bisection(
        **_told(past, sampler),
        found=False,
        is_weak=False,
        verdict=verdict,
        before=whole,
        after=None,
        last_before=None,
        first_after=None,
        first_differing=None,
        suspects=(),
        changes_again=False,
    )


def changed(
    past: Past, sampler: Sampler, pipeline: str, piece: list[Row], at: int, sampled: Sequence[Row] = (), *, is_weak: bool = False
) -> Bisection:
    """A change at a place of a piece that was read whole; what was sampled elsewhere says how much."""
    edge = _key(piece[at])
    everything = once([*piece, *sampled])
    before, later = [r for r in everything if _key(r) < edge], [r for r in everything if _key(r) >= edge]
    again = first_change(later)
    found = suspects(past, pipeline, _near(piece, at))
    cause = found[0].says if found else "nothing that is recorded changed there"
    return _changed(past, sampler, cause, before, later[:again], found, changes_again=again is not None, is_weak=is_weak)


def weak(past: Past, sampler: Sampler, pipeline: str, piece: list[Row], at: int) -> Bisection:
    """Frames changed, of too few passages to say that it was not chance."""
    return changed(past, sampler, pipeline, piece, at, is_weak=True)


def slow(past: Past, sampler: Sampler, before: list[Row], after: list[Row]) -> Bisection:
    """Windows differ, and between them no place does: a change that crept in."""
    cause = "it changed slowly: the samples differ, and no one place between them does"
    return _changed(past, sampler, cause, before, after, (), changes_again=False, is_weak=False)


def once(rows: Sequence[Row]) -> list[Row]:
    """Rows without those that were sampled twice, in the order of the line."""
    return sorted({r.result_id: r for r in rows}.values(), key=_key)


def of_passages(r: Rate) -> str:
    """In how many passages frames were, where some shared one; else nothing."""
    return "" if r.passages_count == r.count else f" in {r.passages_count} passage{'s' if r.passages_count > 1 else ''}"


def holds_of(rows: Sequence[Row]) -> list[bool]:
    return [r.holds for r in rows]


def _changed(
    past: Past,
    sampler: Sampler,
    cause: str,
    earlier: list[Row],
    later: list[Row],
    found: tuple[Suspect, ...],
    *,
    changes_again: bool,
    is_weak: bool,
) -> Bisection:
    before, after = share(earlier), share(later)
    grew = after.share > before.share
    first = next((r for r in later if r.holds == grew), later[0])
    verdict = f"{cause}: before it held for {_shown(before)}, after it for {_shown(after)}"
    if is_weak:
        rows = [*earlier, *later]
        count = passages_count(rows)
        verdict = f"no proof, since it rests on {count} {'passages' if count < len(rows) else 'frames'} only: {verdict}"
    return Bisection(
        **_told(past, sampler),
        found=not is_weak,
        is_weak=is_weak,
        verdict=verdict,
        before=before,
        after=after,
        last_before=earlier[-1].place,
        first_after=later[0].place,
        first_differing=FirstDiffering(
            position=first.place,
            result_id=first.result_id,
            frame_id=first.frame_id,
            device=first.device,
            sequence=first.sequence,
            said=first.said,
        ),
        suspects=found,
        changes_again=changes_again,
    )


def _told(past: Past, sampler: Sampler) -> dict[str, Any]:
    return {
        "source": past.source,
        "where": sampler.where.text,
        "device": sampler.device,
        "from_us": sampler.from_us,
        "to_us": sampler.to_us,
        "records_read": sampler.records_read,
        "records_count": sampler.count,
    }


def _near(piece: list[Row], at: int) -> list[Row]:
    """Rows on both sides of a cut, no further than another change."""
    later = first_change(piece[at:])
    return piece if later is None else piece[: at + later]


def _key(row: Row) -> tuple[int, int, int]:
    return row.place.appended_at_us, row.place.partition, row.place.offset


def _shown(r: Rate) -> str:
    return f"{r.hits} of {r.count}{of_passages(r)} ({r.share:.1%}, between {r.low:.1%} and {r.high:.1%})"
