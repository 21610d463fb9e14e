"""The steps' own rules, without a network: thresholds, reports, digests, boxes, text."""

import json
from pathlib import Path

import numpy as np
import pytest

from triton_models.steps.contract import StepError, Tensor, Tensors, Thresholds, bytes_tensor, read_thresholds
from triton_models.steps.digest import model_digest
from triton_models.steps.run import LoadedStep, tensors_sha256


class Doubling:
    """A step that doubles, and refuses what is negative."""

    def __call__(self, tensors: Tensors) -> dict[str, Tensor]:
        if (tensors["X"] < 0).any():
            raise StepError("X is negative")
        return {"Y": tensors["X"] * 2}

    def runtime(self) -> dict[str, str]:
        return {"numpy": np.__version__}


def loaded(name: str, *, runtime: dict[str, str], joins_reports: bool = False) -> LoadedStep:
    return LoadedStep(
        step=Doubling(),
        name=name,
        model=f"{name}_model",
        version=7,
        variant="python_cpu",
        digest="d" * 64,
        runtime=runtime,
        joins_reports=joins_reports,
    )


X = {"X": np.array([1.0, 2.0], dtype=np.float32)}


def test_thresholds_have_defaults() -> None:
    """A request that sets nothing, or sends nothing, gets the defaults; one that sets one keeps the others."""
    assert read_thresholds(b"") == read_thresholds(b"{}") == Thresholds()
    assert read_thresholds(b'{"text_confidence":0.9}') == Thresholds(text_confidence=0.9)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (b'{"text":0.5}', "unknown parameter 'text'"),
        (b'{"box_threshold":1}', "parameter 'box_threshold' must be a number between 0 and 1, not 1"),
        (b'{"box_threshold":0}', "'box_threshold'"),
        (b'{"box_threshold":true}', "'box_threshold'"),
        (b'{"box_threshold":"0.5"}', "'box_threshold'"),
        (b'{"box_threshold":NaN}', "'box_threshold'"),
        (b"[0.5]", "must be a JSON object, not list"),
        (b"{", "PARAMETERS is not JSON"),
        (b"\xff", "PARAMETERS is not JSON"),
    ],
)
def test_a_wrong_threshold_is_refused_by_name(parameters: bytes, says: str) -> None:
    """Unknown names and impossible values are refused, and the message names the culprit."""
    with pytest.raises(StepError, match=says.replace("(", r"\(")):
        read_thresholds(parameters)


def test_a_step_reports_what_it_did() -> None:
    """The report names step, model, version, variant and digest, and the digest of what came out."""
    outputs = loaded("doubling", runtime={}).run(X)
    report = json.loads(outputs.pop("REPORT_DOUBLING")[0])
    assert report["duration_us"] >= 0
    assert report == {
        "step": "doubling",
        "model": "doubling_model",
        "version": 7,
        "variant": "python_cpu",
        "digest": "d" * 64,
        "duration_us": report["duration_us"],
        "output_sha256": tensors_sha256(outputs),
        "runtime": {},
    }


@pytest.mark.parametrize("tensors", [{"X": np.array([-1.0])}, {}])
def test_whatever_fails_names_its_step(tensors: Tensors) -> None:
    """A refusal and a crash of a library both come out as an error that starts with the step's name."""
    with pytest.raises(StepError, match=r"^step doubling \(model doubling_model version 7\): "):
        loaded("doubling", runtime={}).run(tensors)


def test_the_last_step_joins_all_reports() -> None:
    """REPORT holds the steps in the order of the inputs; a runtime that steps disagree on names who has which."""
    first = loaded("first", runtime={"numpy": "1", "opencv": "4"}).run(X)
    second = loaded("second", runtime={"numpy": "2"}).run(X)
    reports = {name: one[name] for one in (first, second) for name in one if name.startswith("REPORT_")}
    joined = loaded("last", runtime={"numpy": "1"}, joins_reports=True).run({**X, **reports})
    report = json.loads(joined["REPORT"][0])
    assert [step["step"] for step in report["steps"]] == ["first", "second", "last"]
    assert report["runtime"] == {"numpy": "1 (first, last); 2 (second)", "opencv": "4"}


def test_output_digest_sees_name_type_shape_and_bytes() -> None:
    """Two outputs have one digest only when nothing about them differs; the order of a dict is nothing."""
    one = np.arange(4, dtype=np.float32)
    different: list[Tensors] = [
        {"A": one},
        {"B": one},
        {"A": one.astype(np.float64)},
        {"A": one.reshape(2, 2)},
        {"A": one + 1},
        {"A": one[:0]},
        {"A": bytes_tensor(b"ab")},
        {"A": np.array([b"a", b"b"], dtype=object)},
    ]
    assert len({tensors_sha256(tensors) for tensors in different}) == len(different)
    assert tensors_sha256({"A": one, "B": one}) == tensors_sha256({"B": one, "A": one.copy()})
    assert tensors_sha256({"A": np.ones((2, 3))[:, ::-1]}) == tensors_sha256({"A": np.ones((2, 3))})


def test_model_digest_sees_every_file(tmp_path: Path) -> None:
    """A changed, renamed, added or moved file changes the digest; compiled Python does not."""
    (tmp_path / "steps").mkdir()
    (tmp_path / "model.py").write_text("a")
    (tmp_path / "steps" / "run.py").write_text("b")
    seen = [model_digest(tmp_path)]
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "model.pyc").write_text("c")
    assert model_digest(tmp_path) == seen[0]
    (tmp_path / "model.py").write_text("A")
    seen.append(model_digest(tmp_path))
    (tmp_path / "model.py").rename(tmp_path / "other.py")
    seen.append(model_digest(tmp_path))
    (tmp_path / "other.py").rename(tmp_path / "steps" / "other.py")
    seen.append(model_digest(tmp_path))
    (tmp_path / "empty").touch()
    seen.append(model_digest(tmp_path))
    assert len(set(seen)) == len(seen)
    with pytest.raises(FileNotFoundError):
        model_digest(tmp_path / "nowhere")
