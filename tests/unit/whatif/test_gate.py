"""A promotion's gate: what a what-if found, held to limits; and windows and limits as people type them."""

from typing import Any

import pytest

from processors.whatif.gate import LIMITS, held
from schemas.errors import ConfigurationError, ContractError
from topology.gates import limits_of, window_of

NOW_US = 1_790_000_000_000_000
HOUR_US = 3_600_000_000


def report(frames: int = 100, not_read: int = 0, valid: tuple[int, int] = (90, 90), failed: int = 0, nothing: int = 0) -> Any:
    """Counts of a what-if in which all were read as recorded, but for so many."""
    outcomes = [
        {"recorded": "read", "whatif": "failed", "frames": failed},
        {"recorded": "read", "whatif": "nothing_read", "frames": nothing},
        {"recorded": "read", "whatif": "read", "frames": frames - failed - nothing},
    ]
    rates = [{"rate": count / frames if frames else None} for count in valid]
    return {
        "frames": frames,
        "frames_not_read": not_read,
        "outcomes": outcomes,
        "proofs": {"recorded": {"frames": rates[0]}, "whatif": {"frames": rates[1]}},
    }


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        (report(), ()),
        (report(valid=(90, 89)), ()),
        (report(valid=(90, 99)), ()),
        (report(valid=(90, 87)), ("valid_share_drop_most is 0.02, and it is 0.03",)),
        (report(frames=19, valid=(19, 19)), ("19 frames could be compared, and 20 are wanted",)),
        (report(not_read=6), ("not_read_share_most is 0.05, and it is 0.0566",)),
        (report(failed=2), ("failed_share_most is 0.01, and it is 0.02",)),
        (report(nothing=6), ("read_share_drop_most is 0.05, and it is 0.06",)),
    ],
)
def test_each_limit_is_held(found: Any, broken: tuple[str, ...]) -> None:
    """And the ones that are not are named with what was found."""
    assert held(found, LIMITS).broken == broken


def test_an_empty_window_lets_nothing_pass() -> None:
    """Nothing was compared, and nothing is divided by it."""
    assert held(report(frames=0, valid=(0, 0)), LIMITS).broken == ("0 frames could be compared, and 20 are wanted",)


def test_a_window_is_a_span_back_from_now_or_two_moments() -> None:
    """Half open, as windows are."""
    assert window_of("whatif:last-24h", zone="UTC", now_us=NOW_US) == (NOW_US - 24 * HOUR_US, NOW_US)
    assert window_of("whatif:last-30m", zone="UTC", now_us=NOW_US) == (NOW_US - HOUR_US // 2, NOW_US)
    from_us, to_us = window_of("whatif:2026-01-01T00:00Z..2026-01-01T12:00Z", zone="UTC", now_us=NOW_US)
    assert to_us - from_us == 12 * HOUR_US


@pytest.mark.parametrize(
    "gate", ["", "whatif", "whatif:", "quality:last-24h", "whatif:last-", "whatif:last-x", "whatif:now", "whatif:now..1h ago"]
)
def test_what_is_no_gate_is_refused(gate: str) -> None:
    """With what to write instead."""
    with pytest.raises((ConfigurationError, ContractError)) as refused:
        window_of(gate, zone="UTC", now_us=NOW_US)
    assert refused.value.do


def test_limits_can_be_given_one_by_one() -> None:
    """The others stay as they are."""
    assert limits_of(["frames_least=5"]) == {**LIMITS, "frames_least": 5.0}


@pytest.mark.parametrize("text", ["frames_least", "frames_least=x", "other=1", "frames_least=-1", "frames_least=nan", "=1"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    """By its name, before anything is read."""
    with pytest.raises(ConfigurationError, match="no limit"):
        limits_of([text])
