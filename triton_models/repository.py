"""The model repository on disk: every model version of the reference ensemble, and its two releases.

Owns what goes into a model version's folder: the network, its settings, the source of its step and the adapter. Owns
the two releases `gate_reader_r1` (PP-OCRv4) and `gate_reader_r2` (PP-OCRv6).

Guarantees: a version's folder holds everything of ours that decides its answer, so that its digest names it. Once built,
its content never changes: `<model>/<version>.sha256` beside it records the digest, and a later build, of sources that
have changed since, restores that content or leaves it alone. Files that are right already are not touched (Triton
reloads what was), files that do not belong are removed; models of others in the same repository are left alone.

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
from .digest import contents_digest, model_digest, model_files

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


def build_repository(target: Path, weights: Path, *, threads: int = 1) -> tuple[Path, ...]:
    """Write the model repository of the reference ensemble.

    Idempotent: on an unchanged repository it only compares (well under a second).

    Args:
        target: Folder of the repository; made when missing.
        weights: Folder that `weights.fetch_weights` filled.
        threads: Threads of one call of a step.
    Returns:
        Versions' folders that were left as they were built, although the sources here would give others today.
    Raises:
        ConfigurationError: A file is missing among the weights, or a version's folder has changed since it was built and
            the sources here do not give its content any more.
    """
    versions_by_step: dict[str, list[int]] = {}
    kept = []
    for model_version in MODEL_VERSIONS:
        folder = target / model_version.step / str(model_version.version)
        if _hold_version(folder, model_version, weights):
            kept.append(folder)
        versions_by_step.setdefault(model_version.step, []).append(model_version.version)
    for step, versions in versions_by_step.items():
        cpu = model_config(step, model=step, versions=tuple(versions), threads=threads)
        gpu = model_config(step, model=step, versions=tuple(versions), threads=threads, variant="gpu")
        _write_configs(target / step, cpu=cpu, gpu=gpu)
    for name, pins in RELEASES.items():
        (target / name / "1").mkdir(parents=True, exist_ok=True)
        cpu, gpu = ensemble_config(name, pins), ensemble_config(name, pins, variant="gpu")
        _write_configs(target / name, cpu=cpu, gpu=gpu)
    return tuple(kept)


def record_of(folder: Path) -> Path:
    """The file that holds the digest which a version's folder was built with. Triton takes only folders for versions."""
    return folder.with_name(f"{folder.name}.sha256")


def release_digests(repository: Path, name: str) -> dict[str, str]:
    """The digest of each step of a release, by step, computed from the files on disk.

    Raises:
        KeyError: No such release.
        FileNotFoundError: The repository was not built.
    """
    return {pin.step: model_digest(repository / pin.model / str(pin.version)) for pin in RELEASES[name]}


def _hold_version(folder: Path, version: ModelVersion, weights: Path) -> bool:
    """Build a version's folder, or hold it to what it was built as.

    Returns:
        Whether it was kept although the sources here would give another one today.
    """
    contents = _contents(version, weights)
    record, today = record_of(folder), contents_digest(contents)
    built = record.read_text().strip() if record.exists() else ""
    if built not in ("", today):
        found = model_digest(folder) if folder.is_dir() else "nothing"
        if found != built:
            raise ConfigurationError(
                f"{folder} was built as {built} and holds {found}, and the sources here give {today}: "
                "the content of a model version never changes",
                do=f"put the folder back as it was built; or, to build it anew, delete it and {record.name} beside it: a release "
                "that pins the old content does not read any more, so register another one",
            )
        _keep_uncompiled(folder)
        return True
    _write_contents(folder, contents)
    _write(record, f"{today}\n".encode())  # last: a build that was cut short is begun again
    return False


def _contents(version: ModelVersion, weights: Path) -> dict[str, bytes]:
    """The files of a version's folder by their relative path, from the sources and weights of today."""
    settings = {"step": version.step, "variant": version.variant, **version.settings}
    contents = {
        "model.py": (_PACKAGE / "model.py").read_bytes(),
        "settings.json": (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode(),
    }
    for source in (*_SHARED_SOURCES, *version.sources, version.step):
        contents[f"steps/{source}.py"] = (_PACKAGE / "steps" / f"{source}.py").read_bytes()
    for name, weights_name in version.files.items():
        path = weights / weights_name
        if not path.exists():
            raise ConfigurationError(f"{weights_name} is not in {weights}", do="run fetch_weights first")
        contents[name] = path.read_bytes()
    return contents


def _write_contents(folder: Path, contents: Mapping[str, bytes]) -> None:
    _keep_uncompiled(folder)
    for name, content in contents.items():
        _write(folder / name, content)
    for path in model_files(folder):
        if path.relative_to(folder).as_posix() not in contents:
            path.unlink()


def _keep_uncompiled(folder: Path) -> None:
    """Python writes compiled files beside its source, and Triton reloads whatever changed, so that loading one release
    would restart the models of another. A plain file where their folder would be keeps them from being written."""
    for name in ("__pycache__", "steps/__pycache__"):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        _write(folder / name, b"")


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
