"""The reference pipeline's models on this machine: fetched, built into a Triton repository, described for a release."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from schemas.errors import ContractError
from topology.stack.layout import Layout


def build(home: Path, *, say: Callable[[str], None]) -> Path:
    """Fetch what is missing of the weights and build the model repository; quick when all is there.

    Returns:
        The repository's folder.
    """
    from triton_models.repository import build_repository
    from triton_models.weights import fetch_weights

    layout = Layout(home)
    weights = layout.servers / "weights"
    fetch_weights(weights, say=say)
    build_repository(layout.model_repository, weights)
    return layout.model_repository


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


def release_parameters() -> Mapping[str, float]:
    """The thresholds that a release of the reference pipeline starts with."""
    from triton_models.steps.contract import Thresholds

    return asdict(Thresholds())
