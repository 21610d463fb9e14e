"""The configurations of registered models, and the steps of a release with the tensors that these name.

Next: `model_folder` and `reading` write them into repositories, `hindsight releases register` joins them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from processors.release.core import model_name
from schemas.errors import ContractError
from schemas.events import ModelRegistered
from schemas.types import ReleaseStep
from streams.ports import BlobStore
from topology.model_store import ModelCache, content_of
from triton_models.configuration import model_config
from triton_models.ensemble import Member
from triton_models.model_configuration import canonical, inputs_of, outputs_of, parse_configuration
from triton_models.wiring import STEPS


def configuration_of(event: ModelRegistered, blobs: BlobStore) -> str | None:
    """The configuration that a model version was registered with; None when with none, as before there were any.

    Raises:
        ContractError: it is gone from the blob store, or was changed there.
    """
    if event.configuration is None:
        return None
    return content_of(event.configuration.blob, f"the configuration of {model_name(event)}", blobs).decode()


def trusted_configuration(event: ModelRegistered, cache: ModelCache) -> str | None:
    """The same; where the source of models is not trusted, only one that this machine had before.

    Raises:
        ContractError: it is gone or changed, or this machine has another one.
    """
    text, own = configuration_of(event, cache.blobs), cache.beside / event.model / "config.pbtxt"
    if text is None or cache.trusted or (own.is_file() and _canonical_of(own, event.model) == text):
        return text
    raise ContractError(
        f"the bundle brings the configuration of {model_name(event)}, which this machine never had",
        do="add --trust-models if you trust whoever made the bundle",
    )


def runs_in_process(event: ModelRegistered) -> bool:
    """Whether a model version brings the source of its step, so that it runs without a server."""
    return any(file.path == "steps/run.py" for file in event.files)


def generated_configuration(folder: Path, *, model: str, threads: int = 1) -> str | None:
    """The configuration of a version's folder that is one of the reference pipeline's; None for any other."""
    try:
        step = json.loads((folder / "settings.json").read_text())["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if step not in STEPS or not (folder / "steps" / "run.py").is_file():
        return None
    text = model_config(step, model=model, versions=(1,), threads=threads)
    return canonical(parse_configuration(text, where=f"step {step}"), model=model)


def _canonical_of(path: Path, model: str) -> str:
    return canonical(parse_configuration(path.read_text(), where=str(path)), model=model)


def members_of(steps: tuple[ReleaseStep, ...], texts: Mapping[str, str]) -> tuple[Member, ...]:
    """The steps of a release with their tensors.

    Args:
        texts: Each model's configuration, by its name.
    Raises:
        ContractError: a configuration is not there, or cannot be read.
    """
    if without := sorted({step.model for step in steps} - texts.keys()):
        raise ContractError(
            f"{', '.join(without)} has no configuration on the log",
            do="register it again from its folder: `hindsight models register`",
        )
    parsed = {model: parse_configuration(text, where=f"config.pbtxt of {model}") for model, text in texts.items()}
    return tuple(
        Member(
            step=step.step,
            model=step.model,
            version=step.version,
            inputs=inputs_of(parsed[step.model]),
            outputs=outputs_of(parsed[step.model]),
        )
        for step in steps
    )
