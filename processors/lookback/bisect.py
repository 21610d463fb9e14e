"""The first change after which results of a kind became more frequent, or fewer, and what changed there.

Windows are sampled over the whole time to see that there is a change at all and where it lies roughly; then the interval
is halved, each time by a window large enough to tell one share from the other; the last piece is read whole. So a log of
any length costs some thousands of reads, and some times as many where frames of one passage are alike, since each then proves
less; a device that is rare among others of its partition costs as many times more, and where it is silent its partition is
read on to where it is not. `passages` says what frames prove; `changed` puts the answer together.
"""

from dataclasses import dataclass

from processors.lookback.changed import Bisection, changed, holds_of, once, same, slow, weak
from processors.lookback.passages import SUGGESTIVE, UNLIKE, Alike, first_change, likeness, passages_count, weights
from processors.lookback.rates import for_second, smoothed
from processors.lookback.sampling import Row, Sampler
from processors.lookback.scan import Say
from processors.lookback.where import parse_where
from processors.rules.contract import Rules
from streams.past import Past

_WINDOWS = 9
_WINDOW_ROWS = 64
_WINDOW_ROWS_MOST = 512
_WIDER_MOST = 4
# Eleven passages of which the first are all so and the last all otherwise are the fewest that prove a change.
_PASSAGES_FEW = 11
_WHOLE = 1200
_SURE = 4.6  # odds of 100 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rough:
    """An interval of the line in which the share changes, and the rows that say so."""

    low: int
    high: int
    before: list[Row]
    after: list[Row]
    alike: Alike
    wider: int


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
        where: A condition over results; see `where` and `fields.FIELDS`.
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
        at = first_change(piece)
        return changed(past, sampler, pipeline, piece, at) if at is not None else _unproved(past, sampler, pipeline, piece)
    say(f"{sampler.count} results in the window; sampling them")
    places, windows = _windows(sampler, _WINDOW_ROWS)
    sampler.hold_names()
    wider = _wider([r for w in windows for r in w])
    if wider > 1:
        places, windows = _windows(sampler, wider * _WINDOW_ROWS)
    sampled = once([r for w in windows for r in w])
    rough = _roughly(sampler, places, windows, wider)
    if rough is None:
        return same(past, sampler, sampled)
    piece = _narrowed(sampler, rough, say)
    at = first_change(piece)
    if at is None:
        return slow(past, sampler, rough.before, rough.after)
    return changed(past, sampler, pipeline, piece, at, sampled)


def _unproved(past: Past, sampler: Sampler, pipeline: str, piece: list[Row]) -> Bisection:
    """No change; or one that frames show, and too few passages prove."""
    is_few = passages_count(piece) < _PASSAGES_FEW
    at = first_change(piece, UNLIKE) if is_few else first_change(piece, least=SUGGESTIVE)
    return same(past, sampler, piece) if at is None else weak(past, sampler, pipeline, piece, at)


def _wider(rows: list[Row]) -> int:
    """How many times as many rows it takes where they are alike."""
    rows = once(rows)
    worth = sum(weights(rows, likeness(rows)))
    return min(_WIDER_MOST, round(len(rows) / worth)) if rows else 1


def _windows(sampler: Sampler, size: int) -> tuple[list[int], list[list[Row]]]:
    """Windows all over the line with their places, the last one at its very end."""
    first, last = sampler.line()
    places = [first + (last - first) * n // _WINDOWS for n in range(_WINDOWS)]
    windows: list[list[Row]] = []
    for place in places:
        known = windows[-1] if windows else None
        is_far = known is not None and (not known or sampler.place_of(known[0]) >= place)
        windows.append(known if is_far and known is not None else sampler.window(place, size))
    return [*places, last], [*windows, sampler.before(last, size) if windows[0] else []]


def _roughly(sampler: Sampler, places: list[int], windows: list[list[Row]], wider: int) -> _Rough | None:
    """Between which places the share first changes; None when it does not."""
    window_of = {row.result_id: n for n, rows in reversed(list(enumerate(windows))) for row in rows}
    rows = once([row for window in windows for row in window])
    at = first_change(rows)
    if at is None:
        return None
    later = first_change(rows[at:])
    # The cut may lie within a window, or anywhere between the last row of one and the first of the next.
    n = window_of[rows[at].result_id]
    after = rows[at:] if later is None else rows[at : at + later]
    low = max((p for p in places if p <= sampler.place_of(rows[at - 1])), default=places[0])
    high = min((p for p in places if p > sampler.place_of(rows[at])), default=places[-1])
    low, high = min(low, places[max(0, n - 1)]), max(high, places[min(n + 1, len(places) - 1)])
    return _Rough(low=low, high=high, before=rows[:at], after=after, alike=likeness(rows[: at + len(after)], at), wider=wider)


def _narrowed(sampler: Sampler, rough: _Rough, say: Say) -> list[Row]:
    """Halve the interval until the rest can be read whole; gives its rows, with some from before and after."""
    low, high = rough.low, rough.high
    reach = rough.wider * _WINDOW_ROWS
    while sampler.between(low, high) > _WHOLE // 2 and high - low > 1:
        middle = (low + high) // 2
        rows, lean = _leaning(sampler, middle, rough)
        reach = max(reach, len(rows))
        low, high = (low, middle) if lean > 0 or not rows else (middle, high)
        say(f"{sampler.between(low, high)} results left; {sampler.records_read} records read")
    return once([*sampler.before(low, reach), *sampler.all_between(low, high), *sampler.window(high, 2 * reach)])


def _leaning(sampler: Sampler, place: int, rough: _Rough) -> tuple[list[Row], float]:
    """Whether rows from a place on are of the first share (below 0) or of the second, by as many as it takes."""
    before, after = (smoothed(holds_of(rows), weights(rows, rough.alike)) for rows in (rough.before, rough.after))
    size, known = rough.wider * _WINDOW_ROWS, 0
    while True:
        rows = sampler.window(place, size)
        lean = for_second(holds_of(rows), weights(rows, rough.alike), before, after)
        if abs(lean) >= _SURE or size >= rough.wider * _WINDOW_ROWS_MOST or len(rows) <= known:
            return rows, lean
        size, known = size * 2, len(rows)
