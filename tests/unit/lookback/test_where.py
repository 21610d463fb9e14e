"""The language of conditions: what it means, and that nothing else gets in."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.lookback.where import parse_where
from schemas.errors import ConfigurationError

FIELDS = {"outcome": "read", "confidence": 0.42, "valid": None, "labels": ["ABC", "22G1"], "readings_count": 2, "label": "ABC"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("confidence < 0.5", True),
        ("0.4 <= confidence < 0.42", False),
        ("outcome == 'read' and not valid", True),
        ("valid == None", True),
        ("valid is None", True),
        ("valid < 1", False),
        ("missing > 0 or missing < 0", False),
        ("not (missing > 0)", True),
        ("'22G1' in labels", True),
        ("label in ('X', 'ABC')", True),
        ("'B' in label", True),
        ("'x' not in missing", True),
        ("confidence * 100 > 40 + readings_count / 2", True),
        ("-confidence < 0", True),
        ("1 / (readings_count - 2) > 0", False),
    ],
)
def test_conditions_mean_what_they_say(text: str, holds: bool) -> None:
    """Comparisons, lists, arithmetic; what is missing compares as false and equals None."""
    assert parse_where(text).holds(FIELDS) is holds


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "confidence <", "confidence = 1", "__import__('os')", "label.upper() == 'A'", "labels[0] == 'A'",
        "lambda: label", "[x for x in labels]", "f'{label}' == 'a'", "confidence ** 9 > 1", "label if valid else 1",
        "(label := 1)", "b'x' == label", "label % 'x' == ''", "confidence < 1; label", "x" * 600,
        " and ".join(["label"] * 100), "{label: 1}", "1j == label", "label\x00", "(" * 240 + "label" + ")" * 240,
    ],
)  # fmt: skip
def test_nothing_else_is_let_in(text: str) -> None:
    """Calls, attributes, indexes, powers, comprehensions and what is no condition are refused, and named."""
    with pytest.raises(ConfigurationError, match="--where"):
        parse_where(text)


def test_values_that_do_not_go_together_are_refused() -> None:
    """A text is not less than a number, and not to be added to one."""
    for text in ("label < 1", "label + 1 > 0", "1 in confidence"):
        with pytest.raises(ConfigurationError):
            parse_where(text).holds(FIELDS)


@given(st.text(max_size=60))
def test_any_text_is_answered_or_refused(text: str) -> None:
    """Whatever is typed, the answer is yes, no, or a refusal."""
    with suppress(ConfigurationError):
        assert parse_where(text).holds(FIELDS) in (True, False)
