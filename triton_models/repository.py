"""The model repository on disk: every model version of the reference ensemble, and its two releases.

Owns what goes into a model version's folder: the network, its settings, the source of its step and the adapter. Owns
the two releases `gate_reader_r1` (PP-OCRv4) and `gate_reader_r2` (PP-OCRv6).

Guarantees: a version's folder holds everything of ours that decides its answer, so that its digest names it; files
that are right already are not touched (Triton reloads what was), files that do not belong are removed; models of
others in the same repository are left alone.

Next: the server loads an ensemble by name; `in_process` runs the same folders.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import ConfigurationError

from .configuration import StepPin, ensemble_config, model_config
from .digest import model_digest, model_files

_PACKAGE = Path(__file__).parent
_SHARED_SOURCES = ("__init__", "contract", "digest", "run")
_TURN_ABOVE = 0.9  # rapidocr's config.yaml, Cls.cls_thresh


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A model version: its step, the settings of the step, and its files as {name here: name among the weights}."""

    step: str
    version: int
    variant: str
    settings: Mapping[str, Any]
    files: Mapping[str, str]
    sources: tuple[str, ...] = ()


_NETWORK = ("onnx_session",)
_RECOGNIZER = {"width_px_min": 320, "turn_above": _TURN_ABOVE}

MODEL_VERSIONS = (
    ModelVersion(
        step="dali_preprocess",
        version=1,
        variant="dali_cpu",
        files={},
        settings={"side_px_max": 736, "image_px_max": 50_000_000},
    ),
    ModelVersion(
        step="detection",
        version=3,
        variant="onnxruntime_cpu",
        settings={},
        sources=_NETWORK,
        files={"model.onnx": "ppocr_v4_detection.onnx"},
    ),
    ModelVersion(
        step="detection",
        version=4,
        variant="onnxruntime_cpu",
        settings={},
        sources=_NETWORK,
        files={"model.onnx": "ppocr_v6_detection.onnx"},
    ),
    ModelVersion(
        step="crop_and_resize",
        version=1,
        variant="python_cpu",
        files={},
        settings={
            "unclip_ratio": 1.6,
            "contours_max": 1000,
            "crops_max": 32,
            "width_px_max": 960,
            "candidate_score_min": 0.3,
            "candidates_max": 16,
        },
    ),
    ModelVersion(
        step="classifier",
        version=2,
        variant="onnxruntime_cpu",
        settings={},
        sources=_NETWORK,
        files={"model.onnx": "ppocr_v2_orientation.onnx"},
    ),
    ModelVersion(
        step="recognizer",
        version=1,
        variant="onnxruntime_cpu",
        settings=_RECOGNIZER,
        sources=_NETWORK,
        files={"model.onnx": "ppocr_v4_recognizer.onnx"},
    ),
    ModelVersion(
        step="recognizer",
        version=2,
        variant="onnxruntime_cpu",
        settings=_RECOGNIZER,
        sources=_NETWORK,
        files={"model.onnx": "ppocr_v6_recognizer.onnx"},
    ),
    ModelVersion(
        step="postprocess",
        version=1,
        variant="python_cpu",
        settings={"joins_reports": True, "turn_above": _TURN_ABOVE, "candidates_max": 16},
        files={"vocabulary_v4.txt": "ppocr_v4_vocabulary.txt", "vocabulary_v6.txt": "ppocr_v6_vocabulary.txt"},
    ),
)
"""All model versions; a model has the name of its step."""


def _release(*, detection: int, recognizer: int) -> tuple[StepPin, ...]:
    versions = {
        "dali_preprocess": 1,
        "detection": detection,
        "crop_and_resize": 1,
        "classifier": 2,
        "recognizer": recognizer,
        "postprocess": 1,
    }
    return tuple(StepPin(step=step, model=step, version=version) for step, version in versions.items())


RELEASES: Mapping[str, tuple[StepPin, ...]] = {
    "gate_reader_r1": _release(detection=3, recognizer=1),
    "gate_reader_r2": _release(detection=4, recognizer=2),
}
"""The releases of the reference pipeline by the name of their ensemble, version 1 each."""


def build_repository(target: Path, weights: Path, *, threads: int = 1) -> None:
    """Write the model repository of the reference ensemble.

    Idempotent: on an unchanged repository it only compares (well under a second).

    Args:
        target: Folder of the repository; made when missing.
        weights: Folder that `weights.fetch_weights` filled.
        threads: Threads of one call of a step.
    Raises:
        ConfigurationError: A file is missing among the weights.
    """
    versions_by_step: dict[str, list[int]] = {}
    for model_version in MODEL_VERSIONS:
        _write_version(target / model_version.step / str(model_version.version), model_version, weights)
        versions_by_step.setdefault(model_version.step, []).append(model_version.version)
    for step, versions in versions_by_step.items():
        cpu = model_config(step, model=step, versions=tuple(versions), threads=threads)
        gpu = model_config(step, model=step, versions=tuple(versions), threads=threads, variant="gpu")
        _write_configs(target / step, cpu=cpu, gpu=gpu)
    for name, pins in RELEASES.items():
        (target / name / "1").mkdir(parents=True, exist_ok=True)
        cpu, gpu = ensemble_config(name, pins), ensemble_config(name, pins, variant="gpu")
        _write_configs(target / name, cpu=cpu, gpu=gpu)


def release_digests(repository: Path, name: str) -> dict[str, str]:
    """The digest of each step of a release, by step, computed from the files on disk.

    Raises:
        KeyError: No such release.
        FileNotFoundError: The repository was not built.
    """
    return {pin.step: model_digest(repository / pin.model / str(pin.version)) for pin in RELEASES[name]}


def _write_version(folder: Path, version: ModelVersion, weights: Path) -> None:
    settings = {"step": version.step, "variant": version.variant, **version.settings}
    wanted = {
        "model.py": (_PACKAGE / "model.py").read_bytes(),
        "settings.json": (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode(),
    }
    for source in (*_SHARED_SOURCES, *version.sources, version.step):
        wanted[f"steps/{source}.py"] = (_PACKAGE / "steps" / f"{source}.py").read_bytes()
    for name, weights_name in version.files.items():
        path = weights / weights_name
        if not path.exists():
            raise ConfigurationError(f"{weights_name} is not in {weights}", do="run fetch_weights first")
        wanted[name] = path.read_bytes()
    # Python writes compiled files beside its source, and Triton reloads whatever changed, so that loading one release
    # would restart the models of another. A plain file where their folder would be keeps them from being written.
    for name in ("__pycache__", "steps/__pycache__"):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        _write(folder / name, b"")
    for name, content in wanted.items():
        _write(folder / name, content)
    for path in model_files(folder):
        if path.relative_to(folder).as_posix() not in wanted:
            path.unlink()


def _write_configs(folder: Path, *, cpu: str, gpu: str) -> None:
    _write(folder / "config.pbtxt", cpu.encode())
    _write(folder / "configs" / "gpu.pbtxt", gpu.encode())


def _write(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
