"""Evidence of absence: why a device showed nothing, or not what was expected, at a moment.

Each part of the chain is asked for what it left on the log, and answers with findings; the most telling one is the
verdict. A finding that `explains` is a reason; others are told because they belong to the picture. Reads only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from processors.lookback import absent, unread
from processors.lookback.findings import Asked, Finding
from processors.lookback.scan import Say
from processors.lookback.window import gather
from processors.rules.contract import Rules
from schemas.envelope import rfc3339
from streams.past import Past

# The most telling first: what is known of the very text, then what stopped single frames, then what stopped them all.
REASONS = (
    "below_threshold",
    "outvoted",
    "read_differently",
    "late",
    "failed",
    "rejected",
    "refused",
    "skipped",
    "no_vote",
    "other_below_threshold",
    "dropped",
    "missing_numbers",
    "waiting",
    "dead_letter",
    "no_frames",
    "not_kept",
    "silence",
    "lag",
    "promotion_pending",
    "load_failed",
    "no_release",
    "saw_nothing",
    "was_read",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyNot:
    """The answer: findings, the most telling first, and what was looked at. `explained`: whether any is a reason."""

    source: str
    device: str
    at_us: int
    from_us: int
    to_us: int
    expected: str | None
    explained: bool
    verdict: str
    findings: tuple[Finding, ...]
    frames_count: int
    checked: tuple[str, ...]


def why_not(
    past: Past,
    *,
    device: str,
    at_us: int,
    pipeline: str,
    around_s: float = 30.0,
    expected: str | None = None,
    rules: Rules | None = None,
    moment: Callable[[int], str] = rfc3339,
    say: Say = lambda _: None,
) -> WhyNot:
    """Why nothing was shown of a device around a moment.

    Args:
        at_us: The moment, microseconds since the epoch.
        pipeline: Whose releases are in question.
        around_s: Seconds on each side of the moment that are looked at.
        expected: The text that should have been read.
        rules: What to ask for votes, and for what candidates would have meant.
        moment: A time in microseconds as people read it.
    Raises:
        ContractError: the window holds too many frames, or a bundle does not hold the moment or the device.
        LogUnavailableError: the log does not answer.
    """
    past.hold(at_us=at_us, device=device)
    window = gather(past, device, at_us=at_us, around_s=around_s, say=say)
    asked = Asked(past=past, window=window, expected=expected, rules=rules, pipeline=pipeline, moment=moment)
    found: list[Finding] = []
    for look in (*absent.LOOKS, *unread.LOOKS):
        found += look(asked)
    ranked = _ranked(found, is_there=expected is not None)
    explained = any(f.explains for f in ranked)
    return WhyNot(
        source=past.source,
        device=device,
        at_us=at_us,
        from_us=window.from_us,
        to_us=window.to_us,
        expected=expected,
        explained=explained,
        verdict=ranked[0].says if explained or _is_read(ranked) else "nothing on the log explains it",
        findings=ranked,
        frames_count=len(window.stories),
        checked=(*window.checked, *_looked_for(asked)),
    )


def _is_read(ranked: tuple[Finding, ...]) -> bool:
    return bool(ranked) and ranked[0].reason == "was_read"


def _ranked(found: list[Finding], *, is_there: bool) -> tuple[Finding, ...]:
    """The most telling first. What was read and published in time needs no reason, whatever else is true."""
    reasons = {f.reason for f in found}
    if is_there and "was_read" in reasons and not reasons & {"late", "outvoted"}:
        found = [replace(f, explains=False) for f in found]
    order = {reason: number for number, reason in enumerate(REASONS)}
    return tuple(
        sorted(found, key=lambda f: (not f.explains, not f.explains and f.reason != "was_read", order[f.reason], f.rank))
    )


def _looked_for(asked: Asked) -> tuple[str, ...]:
    looked = [
        "gaps in the device's sequence, frames dropped by its spool and refused at the door",
        "rejections, skips, failures and dead letters of its frames",
        "candidates below threshold" + (f", held against {asked.expected!r}" if asked.expected is not None else ""),
        "votes of the passages" if asked.rules is not None else "not the votes of the passages: no rules are at hand",
        "late results and the time between the stages",
        f"releases of {asked.pipeline} as known at the moment",
    ]
    return tuple(looked)
