"""The reference pipeline's models on this machine: fetched, built into a Triton repository, described for a release."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from schemas.errors import ContractError
from schemas.types import ReleaseStep
from topology.model_store import ModelVersion
from topology.stack.layout import Layout


def build(home: Path, *, say: Callable[[str], None]) -> Path:
    """Fetch what is missing of the weights and build the model repository; quick when all is there.

    Says which model versions stay as they were built, although the sources here would give others today.

    Returns:
        The repository's folder.
    """
    from triton_models.repository import build_repository
    from triton_models.weights import fetch_weights

    layout = Layout(home)
    weights = layout.servers / "weights"
    fetch_weights(weights, say=say)
    if kept := build_repository(layout.model_repository, weights):
        say(kept_in_words(kept))
    return layout.model_repository


def kept_in_words(folders: Sequence[Path]) -> str:
    """What to say of model versions that were kept as they were built, and what to do to run the changed sources."""
    names = ", ".join(f"{folder.parent.name} {folder.name}" for folder in folders)
    return (
        f"{names} in {folders[0].parents[1]}: kept as built, and the sources here have changed since. To run the changed ones, "
        "give them new versions in MODEL_VERSIONS (triton_models/repository.py) and releases that pin these; or delete the "
        "folders and the .sha256 files beside them"
    )


def releases() -> tuple[str, ...]:
    """Names of the releases that the repository is built with."""
    from triton_models.repository import RELEASES

    return tuple(sorted(RELEASES))


def release_steps(home: Path, release: str) -> tuple[tuple[str, str, int, str], ...]:
    """Step, model, version and digest of each step of a release, the digests from the files on disk.

    Raises:
        ContractError: there is no such release, or the repository was not built.
    """
    from triton_models.repository import RELEASES, release_digests

    if release not in RELEASES:
        raise ContractError(f"the model repository has no release {release}", do=f"choose from {', '.join(sorted(RELEASES))}")
    try:
        digests = release_digests(Layout(home).model_repository, release)
    except FileNotFoundError as error:
        raise ContractError(f"the model repository was not built: {error}", do="run `hindsight up`, which builds it") from error
    return tuple((pin.step, pin.model, pin.version, digests[pin.step]) for pin in RELEASES[release])


def changed_since_pinned(home: Path, steps: Iterable[ReleaseStep]) -> tuple[tuple[ReleaseStep, str], ...]:
    """Steps of a release whose model version has another content on disk than the release pins, each with the digest that
    it has; "nothing" where there is no such folder."""
    from triton_models.digest import model_digest

    repository = Layout(home).model_repository
    folders = [(step, repository / step.model / str(step.version)) for step in steps]
    found = [(step, model_digest(folder) if folder.is_dir() else "nothing") for step, folder in folders]
    return tuple((step, digest) for step, digest in found if digest != step.digest)


def release_versions(home: Path, release: str) -> tuple[ModelVersion, ...]:
    """The model versions that a release pins, with their folders."""
    from topology.configured import generated_configuration

    repository = Layout(home).model_repository
    return tuple(
        ModelVersion(
            model=model,
            version=version,
            folder=repository / model / str(version),
            configuration=generated_configuration(repository / model / str(version), model=model),
        )
        for _, model, version, _ in release_steps(home, release)
    )


def release_parameters() -> Mapping[str, float]:
    """The thresholds that a release of the reference pipeline starts with."""
    from triton_models.steps.contract import Thresholds

    return asdict(Thresholds())
