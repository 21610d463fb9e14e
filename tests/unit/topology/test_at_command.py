"""`hindsight at` before any server is asked."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.errors import ContractError
from topology.cli import build_app


def test_a_moment_that_is_to_come_is_no_question(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error says which moment was understood and what time it is."""
    monkeypatch.setenv("HINDSIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    asked = CliRunner().invoke(build_app(), ["at", "2099-01-01T00:00:00Z", "--device", "gate-1", "--tz", "UTC"])
    assert isinstance(asked.exception, ContractError)
    assert "2099-01-01 00:00:00.000+00:00" in str(asked.exception)
