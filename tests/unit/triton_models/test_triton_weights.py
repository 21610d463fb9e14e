"""The networks out of installed packages: right, or refused. (Those out of a downloaded one: `contract/test_ensemble.py`.)"""

from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import DigestError
from triton_models import weights
from triton_models.weights import WEIGHTS, fetch_weights

DETECTION = next(one for one in WEIGHTS if one.name == "ppocr_v6_detection.onnx")


@pytest.fixture
def only_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    """One network that an installed package holds."""
    monkeypatch.setattr(weights, "WEIGHTS", (DETECTION,))
    monkeypatch.setattr(weights, "VOCABULARIES", {})


@pytest.mark.usefixtures("only_detection")
def test_a_damaged_network_is_put_right(tmp_path: Path) -> None:
    """A file whose content is not what it should be is fetched again; one that is right is left alone."""
    fetch_weights(tmp_path, say=print)
    path = tmp_path / DETECTION.name
    right, written_at_ns = path.read_bytes(), path.stat().st_mtime_ns
    fetch_weights(tmp_path, say=print)
    assert path.stat().st_mtime_ns == written_at_ns
    path.write_bytes(right[:-1])
    fetch_weights(tmp_path, say=print)
    assert path.read_bytes() == right
    assert "Apache-2.0" in (tmp_path / "LICENSES.md").read_text()
    assert DETECTION.sha256 in (tmp_path / "LICENSES.md").read_text()


@pytest.mark.usefixtures("only_detection")
def test_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that holds another network than the one named here leaves no file behind, and both digests are named."""
    monkeypatch.setattr(weights, "WEIGHTS", (replace(DETECTION, sha256="0" * 64),))
    with pytest.raises(DigestError, match=f"{DETECTION.sha256}, expected {'0' * 64}"):
        fetch_weights(tmp_path, say=print)
    assert list(tmp_path.iterdir()) == []
