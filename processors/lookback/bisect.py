"""The first change after which results of a kind became more frequent, or fewer, and what changed there.

Windows are sampled over the whole time to see that there is a change at all and where it lies roughly; then the interval
is halved, each time by a window large enough to tell one share from the other; the last piece is read whole. So a log of
any length costs some thousands of reads; a device that is rare among others of its partition costs as many times more, and
where it is silent its partition is read on to where it is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from processors.lookback.rates import Rate, first_split, for_second, rate, smoothed
from processors.lookback.sampling import Row, Sampler
from processors.lookback.scan import Place, Say
from processors.lookback.suspects import Suspect, suspects
from processors.lookback.where import parse_where
from processors.rules.contract import Rules
from streams.past import Past

_WINDOWS = 9
_WINDOW_ROWS = 64
_WINDOW_ROWS_MOST = 512
_WHOLE = 1200
_SURE = 4.6  # odds of 100 to 1


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

    `records_read` counts what was read of `records_count` results with as many inferences.
    """

    source: str
    where: str
    device: str | None
    from_us: int
    to_us: int
    found: bool
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rough:
    """An interval of the line in which the share changes, and the rows that say so."""

    low: int
    high: int
    before: list[Row]
    after: list[Row]


def bisect(
    past: Past,
    *,
    where: str,
    from_us: int,
    to_us: int,
    pipeline: str,
    device: str | None = None,
    rules: Rules | None = None,
    say: Say = lambda _: None,
) -> Bisection:
    """The first change of how often a condition holds, between two moments.

    Args:
        where: A condition over results; see `where` and `sampling.FIELDS`.
        pipeline: Whose releases are suspects.
        device: Only this device's results.
        rules: What to ask which of a frame's readings is meant by label, kind and confidence.
    Raises:
        ConfigurationError: the condition cannot be read.
        ContractError: it names what no result has, or a bundle was made without the device.
        LogUnavailableError: the log does not answer.
    """
    past.hold(device=device)
    sampler = Sampler(past=past, where=parse_where(where), from_us=from_us, to_us=to_us, device=device, rules=rules)
    if sampler.count <= _WHOLE:
        piece = sampler.all_between(*sampler.line())
        sampler.hold_names()
        return _answer(past, sampler, pipeline, piece, first_split(_holds(piece)), [])
    say(f"{sampler.count} results in the window; sampling them")
    places, windows = _windows(sampler)
    sampler.hold_names()
    rough = _roughly(sampler, places, windows)
    if rough is None:
        return _answer(past, sampler, pipeline, [r for w in windows for r in w], None, [])
    piece = _narrowed(sampler, rough, say)
    at = first_split(_holds(piece))
    return _slow(past, sampler, rough) if at is None else _answer(past, sampler, pipeline, piece, at, windows)


def _windows(sampler: Sampler) -> tuple[list[int], list[list[Row]]]:
    """Windows all over the line with their places, the last one at its very end."""
    first, last = sampler.line()
    places = [first + (last - first) * n // _WINDOWS for n in range(_WINDOWS)]
    windows: list[list[Row]] = []
    for place in places:
        known = windows[-1] if windows else None
        is_far = known is not None and (not known or sampler.place_of(known[0]) >= place)
        windows.append(known if is_far and known is not None else sampler.window(place, _WINDOW_ROWS))
    return [*places, last], [*windows, sampler.before(last, _WINDOW_ROWS) if windows[0] else []]


def _roughly(sampler: Sampler, places: list[int], windows: list[list[Row]]) -> _Rough | None:
    """Between which places the share first changes; None when it does not."""
    window_of = {row.result_id: n for n, rows in reversed(list(enumerate(windows))) for row in rows}
    rows = _once([row for window in windows for row in window])
    at = first_split(_holds(rows))
    if at is None:
        return None
    later = first_split(_holds(rows[at:]))
    # The cut may lie within a window, or anywhere between the last row of one and the first of the next.
    n = window_of[rows[at].result_id]
    after = rows[at:] if later is None else rows[at : at + later]
    low = max((p for p in places if p <= sampler.place_of(rows[at - 1])), default=places[0])
    high = min((p for p in places if p > sampler.place_of(rows[at])), default=places[-1])
    low, high = min(low, places[max(0, n - 1)]), max(high, places[min(n + 1, len(places) - 1)])
    return _Rough(low=low, high=high, before=rows[:at], after=after)


def _narrowed(sampler: Sampler, rough: _Rough, say: Say) -> list[Row]:
    """Halve the interval until the rest can be read whole; gives its rows, with some from before and after."""
    low, high, before, after = rough.low, rough.high, smoothed(_holds(rough.before)), smoothed(_holds(rough.after))
    reach = _WINDOW_ROWS
    while sampler.between(low, high) > _WHOLE // 2 and high - low > 1:
        middle = (low + high) // 2
        rows, lean = _leaning(sampler, middle, before, after)
        reach = max(reach, len(rows))
        low, high = (low, middle) if lean > 0 or not rows else (middle, high)
        say(f"{sampler.between(low, high)} results left; {sampler.records_read} records read")
    return _once([*sampler.before(low, reach), *sampler.all_between(low, high), *sampler.window(high, 2 * reach)])


def _leaning(sampler: Sampler, place: int, before: float, after: float) -> tuple[list[Row], float]:
    """Whether rows from a place on are of the first share (below 0) or of the second, by as many as it takes."""
    size, known = _WINDOW_ROWS, 0
    while True:
        rows = sampler.window(place, size)
        lean = for_second(_holds(rows), before, after)
        if abs(lean) >= _SURE or size >= _WINDOW_ROWS_MOST or len(rows) <= known:
            return rows, lean
        size, known = size * 2, len(rows)


def _answer(past: Past, sampler: Sampler, pipeline: str, piece: list[Row], at: int | None, windows: list[list[Row]]) -> Bisection:
    if at is None:
        whole = rate(_holds(_once(piece)))
        verdict = f"no change was found: it holds for {_share(whole)}" if whole.count else "there are no results in the window"
        return Bisection(
            **_told(past, sampler),
            found=False,
            verdict=verdict,
            before=whole,
            after=None,
            last_before=None,
            first_after=None,
            first_differing=None,
            suspects=(),
            changes_again=False,
        )
    edge = _key(piece[at])
    everything = _once([*piece, *(r for w in windows for r in w)])
    later = [r for r in everything if _key(r) >= edge]
    again = first_split(_holds(later))
    found = suspects(past, pipeline, _near(piece, at))
    cause = found[0].says if found else "nothing that is recorded changed there"
    before = [r for r in everything if _key(r) < edge]
    return _changed(past, sampler, cause, before, later[:again], found, changes_again=again is not None)


def _slow(past: Past, sampler: Sampler, rough: _Rough) -> Bisection:
    """Windows differ, and between them no place does: a change that crept in."""
    cause = "it changed slowly: the samples differ, and no one place between them does"
    return _changed(past, sampler, cause, rough.before, rough.after, (), changes_again=False)


def _changed(
    past: Past,
    sampler: Sampler,
    cause: str,
    earlier: list[Row],
    later: list[Row],
    found: tuple[Suspect, ...],
    *,
    changes_again: bool,
) -> Bisection:
    before, after = rate(_holds(earlier)), rate(_holds(later))
    grew = after.share > before.share
    first = next((r for r in later if r.holds == grew), later[0])
    return Bisection(
        **_told(past, sampler),
        found=True,
        verdict=f"{cause}: before it held for {_share(before)}, after it for {_share(after)}",
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
    later = first_split(_holds(piece[at:]))
    return piece if later is None else piece[: at + later]


def _once(rows: Sequence[Row]) -> list[Row]:
    """Rows without those that were sampled twice, in the order of the line."""
    return sorted({r.result_id: r for r in rows}.values(), key=_key)


def _key(row: Row) -> tuple[int, int, int]:
    return row.place.appended_at_us, row.place.partition, row.place.offset


def _holds(rows: Sequence[Row]) -> list[bool]:
    return [r.holds for r in rows]


def _share(r: Rate) -> str:
    return f"{r.hits} of {r.count} ({r.share:.1%}, between {r.low:.1%} and {r.high:.1%})"
