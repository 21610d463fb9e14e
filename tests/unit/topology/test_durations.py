"""Spans of time as people type them."""

import pytest

from schemas.errors import ContractError
from topology.moments import parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("5 min", 300), ("1.5h", 5400), ("2d", 172800), ("250ms", 0.25), (" 7 ", 7)]
)
def test_a_span_is_understood(text: str, seconds: float) -> None:
    """A number with a unit, or of seconds."""
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0s", "-5s", "5 weeks", "1e3s", "soon", "٣s5"])
def test_anything_else_is_refused(text: str) -> None:
    """No guess, and no window of nothing."""
    with pytest.raises(ContractError, match="no span of time"):
        parse_duration_s(text)
