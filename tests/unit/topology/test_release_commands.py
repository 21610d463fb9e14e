"""`hindsight releases` before any server is asked."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.errors import ContractError
from topology.cli import build_app


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_threshold_that_is_none_is_not_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    """What no parameter can be is refused at once, with no worker and no broker running; the rest is the release's own to say."""
    monkeypatch.setenv("HINDSIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    asked = CliRunner().invoke(build_app(), ["releases", "threshold", "text_confidence", value])
    assert isinstance(asked.exception, ContractError)
    assert str(asked.exception) == f"text_confidence is {value}, which no parameter can be"
