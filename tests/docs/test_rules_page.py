"""The rules module of docs/how-to/replace-the-rules.md, loaded and used as the page says."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.derive import core
from processors.rules.contract import Rules, load
from schemas.errors import ConfigurationError
from schemas.events import AlertRaised, ResultDerived
from tests.given import cause, completed, frame, seen_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "replace-the-rules.md"


def on_the_page() -> str:
    found = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def parcels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rules]:
    (tmp_path / "parcels.py").write_text(on_the_page())
    monkeypatch.syspath_prepend(str(tmp_path))
    yield load("parcels")
    sys.modules.pop("parcels", None)


def test_the_module_on_the_page_is_a_rules_module(parcels: Rules) -> None:
    """It loads by name, finds the number whatever its spelling, and leaves other text out."""
    readings = parcels.read((seen_text("p 4711", confidence=0.8), seen_text("FRAGILE", index=1), seen_text("P-0042", index=2)))
    assert [r.label for r in readings] == ["P-4711", "P-0042"]
    ballot = parcels.ballot(readings)
    assert ballot is not None
    assert ballot.label == "P-0042"


def test_derive_uses_the_module_on_the_page(parcels: Rules) -> None:
    """A result names the rules and the passage's number; the third frame without one raises the alert."""
    (result,) = core.decide(parcels, core.INITIAL, completed(0, "P-4711"), cause(0, "vision.inferences"))
    assert isinstance(result, ResultDerived)
    assert result.rules == "parcels@1"
    assert result.conclusion is not None
    assert result.conclusion.label == "P-4711"
    state = core.INITIAL
    for sequence in (0, 1):
        state = core.fold(parcels, state, completed(sequence, "FRAGILE"))
    raised = core.decide(parcels, state, completed(2, "FRAGILE"), cause(2, "vision.inferences"))[1]
    assert isinstance(raised, AlertRaised)
    assert raised.kind == "unreadable_parcel"
    assert raised.frame_id == frame(2).frame_id


def test_a_module_that_lacks_a_part_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker does not start, and the error names what is missing."""
    (tmp_path / "half.py").write_text(on_the_page().replace("def alerts(", "def other("))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match="half lacks alerts"):
        load("half")
