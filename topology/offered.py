"""A model's folder as somebody offers it: read, held to what a model may be, and tried in a server of its own.

Guarantees: nothing is stored or announced here; a folder that passes has readable files of its own only, a configuration
that Triton reads, and (where a server can be had) was loaded by one.

Next: `model_store.register` stores and announces the versions.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from schemas.errors import ConfigurationError, ContractError
from topology.configured import generated_configuration
from topology.model_store import ModelVersion

FILE_BYTES_MAX = 2 * 1024**3
FOLDER_BYTES_MAX = 8 * 1024**3
FILES_MAX = 10_000
_CONFIGURATION_BYTES_MAX = 1024**2
TRIAL = "trial"
"""What the lineage says of the trial load."""

Say = Callable[[str], None]


def offered(folder: Path, *, model: str, version: int | None) -> tuple[ModelVersion, ...]:
    """The model versions of a folder: a model's, with config.pbtxt and numbered folders, or one version's of the reference
    pipeline or beside a config.pbtxt.

    Args:
        version: Only this one; of a version's own folder it must be given.
    Raises:
        ContractError: it is no such folder, or a file in it cannot be a model's.
    """
    if not folder.is_dir():
        raise ContractError(f"there is no folder {folder}", do="name a model's folder, or that of one version")
    if (folder / "config.pbtxt").is_file():
        folders = _versions(folder, version)
        text = _configured(folder / "config.pbtxt", model, tuple(folders))
    elif version is None:
        raise ContractError(
            f"{folder} has no config.pbtxt, so it is one version's folder, and its number is not known",
            do="give --version, or name the model's folder",
        )
    else:
        folders, text = {version: folder}, _beside(folder, model, version)
    for place in folders.values():
        hold_files(place)
    return tuple(
        ModelVersion(model=model, version=number, folder=place, configuration=text) for number, place in sorted(folders.items())
    )


def hold_files(folder: Path) -> None:
    """Hold a version's folder to what can be stored.

    Raises:
        ContractError: it is empty, too large, or has something that is no file of its own.
    """
    found, total = 0, 0
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise ContractError(f"{path} is a link out of the folder", do="put the file itself there")
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        if not path.is_file():
            raise ContractError(f"{path} is no file", do="remove it")
        if not os.access(path, os.R_OK):
            raise ContractError(f"{path} cannot be read", do="give yourself the right to read it")
        size, found = path.stat().st_size, found + 1
        total += size
        if size > FILE_BYTES_MAX:
            raise ContractError(f"{path} has {size} bytes, and a file may have {FILE_BYTES_MAX}")
        if total > FOLDER_BYTES_MAX or found > FILES_MAX:
            raise ContractError(f"{folder} has more than {FOLDER_BYTES_MAX} bytes or {FILES_MAX} files")
    if not found:
        raise ContractError(f"{folder} is empty", do="name the folder with the model's files")


def tried(versions: tuple[ModelVersion, ...], *, say: Say, why_not: str = "") -> tuple[ModelVersion, ...]:
    """The versions, loaded by a server of its own, with what came of it in their lineage.

    Args:
        why_not: Why no server is asked; nothing when one is.
    Raises:
        ContractError: the server does not load them; its reason is in the message.
        ConfigurationError: there is no server here.
    """
    from triton_models.model_configuration import is_known_here, parse_configuration, served
    from triton_models.server import triton_version

    text, model = versions[0].configuration, versions[0].model
    if text is None:
        return versions
    config = parse_configuration(text, where=f"config.pbtxt of {model}")
    if not why_not and not is_known_here(config):
        why_not = f"the Triton of this package has no backend {config.backend or config.platform}"
    if why_not:
        say(f"{model} is not tried in a server: {why_not}")
        return tuple(replace(v, lineage={**v.lineage, TRIAL: f"not tried: {why_not}"}) for v in versions)
    from topology.private_triton import try_model

    with tempfile.TemporaryDirectory(prefix="hindsight-trial-") as place:
        repository = Path(place) / "repository"
        (repository / model).mkdir(parents=True)
        (repository / model / "config.pbtxt").write_text(served(text))
        for one in versions:
            (repository / model / str(one.version)).symlink_to(one.folder.resolve(), target_is_directory=True)
        try:
            try_model(repository, model, tuple(v.version for v in versions), folder=Path(place))
        except ConfigurationError as error:
            raise ConfigurationError(str(error), do=f"{error.do}; or give --no-trial, which the record will say") from error
    say(f"{model} was loaded by a Triton of its own")
    return tuple(replace(v, lineage={**v.lineage, TRIAL: f"loaded by Triton {triton_version()}"}) for v in versions)


def read_metrics(path: Path) -> Mapping[str, float]:
    """Numbers by name.

    Raises:
        ContractError: the file is no JSON object of finite numbers.
    """
    found = _json_object(path)
    wrong = sorted(k for k, v in found.items() if isinstance(v, bool) or not isinstance(v, (int, float)) or not math.isfinite(v))
    if wrong:
        raise ContractError(f"{path}: {', '.join(wrong)} is no number", do='write {"mAP": 0.71, "recall": 0.9}')
    return {name: float(value) for name, value in found.items()}  # type: ignore[arg-type]  # held to be numbers above


def read_lineage(path: Path) -> Mapping[str, str]:
    """Words by name.

    Raises:
        ContractError: the file is no JSON object of strings.
    """
    found = _json_object(path)
    if wrong := sorted(k for k, v in found.items() if not isinstance(v, str)):
        raise ContractError(f"{path}: {', '.join(wrong)} is no text", do='write {"dataset": "yard-2026-10", "commit": "1f0c2ab"}')
    if TRIAL in found:
        raise ContractError(f'{path}: "{TRIAL}" is said by the trial load itself', do="give it another name")
    return {name: str(value) for name, value in found.items()}


def _json_object(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ContractError(f"{path} cannot be read: {error}", do="give a file with a JSON object") from error
    if not isinstance(found, dict):
        raise ContractError(f"{path} holds no JSON object", do="give a file with a JSON object")
    return found


def _versions(folder: Path, version: int | None) -> dict[int, Path]:
    """The numbered folders of a model."""
    found = {int(path.name): path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal() and path.name[0] != "0"}
    if not found:
        raise ContractError(f"{folder} has no version", do="put the model's files into a folder named 1")
    if version is None:
        return found
    if version not in found:
        raise ContractError(f"{folder} has no version {version}", do=f"it has {', '.join(map(str, sorted(found)))}")
    return {version: found[version]}


def _configured(path: Path, model: str, versions: tuple[int, ...]) -> str:
    from triton_models.model_configuration import canonical, parse_configuration, problem_with_configuration

    try:
        if path.stat().st_size > _CONFIGURATION_BYTES_MAX:
            raise ContractError(f"{path} has more than {_CONFIGURATION_BYTES_MAX} bytes")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path} cannot be read: {error}") from error
    config = parse_configuration(text, where=str(path))
    if (problem := problem_with_configuration(config, model=model, versions=versions)) is not None:
        raise ContractError(f"{path}: {problem}", do="correct it, and register the model again")
    return canonical(config, model=model)


def _beside(folder: Path, model: str, version: int) -> str:
    """The configuration of one version's folder: generated where it is the reference pipeline's, else the one beside it."""
    if (text := generated_configuration(folder, model=model)) is not None:
        return text
    if (folder.resolve().parent / "config.pbtxt").is_file():
        return _configured(folder.resolve().parent / "config.pbtxt", model, (version,))
    raise ContractError(f"{folder} has no configuration beside it", do="name the model's folder, with config.pbtxt in it")
