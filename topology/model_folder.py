"""A Triton's model repository, made to hold what the log says before the server is asked to load it.

Owns the folders that it writes: versions of registered models, fetched by digest; the configuration of a model that lies
there for the first time; the ensemble of a release.

Guarantees: what is right already is not touched, since Triton starts anew what was; a version appears whole or not at all;
a folder that holds something else than is pinned is never overwritten, and the release is not loaded.

Next: `streams.triton.TritonModels` loads, `processors.release.loader` says what came of it.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from processors.release.core import PipelineReleases, model_name
from schemas.errors import ContractError
from schemas.events import ModelRegistered
from schemas.types import ReleaseStep
from streams.ports import ModelServer
from topology.configured import configuration_of, members_of
from topology.model_store import ModelCache

log = structlog.get_logger()
Known = Callable[[], tuple[Mapping[str, ModelRegistered], ModelCache]]


class HoldingModels:
    """A `ModelServer` whose repository is filled first.

    Args:
        server: What loads, from that repository.
        repository: Its folder, as this process sees it.
        known: What was registered by now, by digest, and a cache of it.
    """

    def __init__(self, server: ModelServer, repository: Path, state: Callable[[], PipelineReleases], known: Known) -> None:
        self._server = server
        self._repository = repository
        self._state = state
        self._known = known

    @property
    def endpoint(self) -> str:
        return self._server.endpoint

    async def is_ready(self, release: str) -> bool:
        return await self._server.is_ready(release)

    async def load(self, release: str) -> None:
        entry = self._state().releases.get(release)
        if entry is not None:
            await asyncio.to_thread(self._hold, release, entry.steps)
        await self._server.load(release)

    def _hold(self, release: str, steps: tuple[ReleaseStep, ...]) -> None:
        known, cache = self._known()
        try:
            for step in steps:
                if step.digest in known:
                    hold_version(self._repository, step, known[step.digest], cache)
            if all(step.digest in known for step in steps):
                hold_ensemble(self._repository, release, steps)
        except OSError as error:
            raise ContractError(
                f"{release} cannot be put into the model repository: {error}", do="see the setting triton.repository"
            ) from error


def hold_version(repository: Path, step: ReleaseStep, event: ModelRegistered, cache: ModelCache) -> None:
    """Put a model version into a repository, unless it is there.

    Raises:
        ContractError: something else lies in its place; or its files are gone, or changed.
    """
    from triton_models.digest import model_digest
    from triton_models.model_configuration import served

    folder = repository / step.model / str(step.version)
    config = folder.parent / "config.pbtxt"
    if folder.is_dir() and (found := model_digest(folder)) != step.digest:
        raise ContractError(
            f"{folder} holds {found}, and {model_name(step)} is pinned to {step.digest}",
            do="remove the folder, and what is pinned is put there; or register under another name",
        )
    text = configuration_of(event, cache.blobs)
    if text is None:
        return  # registered before configurations were; whoever built the repository wrote it
    if not config.exists():
        _write(config, served(text))
    elif not folder.is_dir():
        _hold_same(config, event, text)
        _hold_served(config, step, text)
    if not folder.is_dir():
        _copy(cache.folder_of(step), folder)
        log.info("model put into the repository", model=model_name(step), folder=str(folder))


def hold_ensemble(repository: Path, release: str, steps: tuple[ReleaseStep, ...]) -> None:
    """Put a release's ensemble into a repository that holds its models, unless one with the same pins is there.

    Raises:
        ContractError: another ensemble has its name, or the models do not fit together.
    """
    from triton_models.ensemble import ensemble_text, hold_joined
    from triton_models.model_configuration import parse_configuration

    config = repository / release / "config.pbtxt"
    if config.exists():
        found = parse_configuration(config.read_text(), where=str(config))
        pins = [(s.model_name, s.model_version) for s in found.ensemble_scheduling.step]
        if pins != [(step.model, step.version) for step in steps]:
            told = ", ".join(f"{model}:{version}" for model, version in pins) or "no steps"
            raise ContractError(f"{config.parent} holds another ensemble, of {told}", do="give the release another name")
        return
    if any(not (repository / step.model / "config.pbtxt").exists() for step in steps):
        return  # Triton says what is missing
    texts = {step.model: (repository / step.model / "config.pbtxt").read_text() for step in steps}
    members = members_of(steps, texts)
    hold_joined(release, members)
    (config.parent / "1").mkdir(parents=True, exist_ok=True)
    _write(config, ensemble_text(release, members))


def _hold_same(config: Path, event: ModelRegistered, text: str) -> None:
    from triton_models.model_configuration import canonical, parse_configuration

    lies = canonical(parse_configuration(config.read_text(), where=str(config)), model=event.model)
    if lies != text:
        raise ContractError(
            f"{config} is another configuration than {model_name(event)} is registered with",
            do="give the model another name: all versions of a name share one configuration",
        )


def _hold_served(config: Path, step: ReleaseStep, text: str) -> None:
    """Serve all versions where only some were, this one not among them."""
    from triton_models.model_configuration import parse_configuration, served

    policy = parse_configuration(config.read_text(), where=str(config)).version_policy
    if policy.WhichOneof("policy_choice") != "all" and step.version not in policy.specific.versions:
        _write(config, served(text))


def _copy(source: Path, target: Path) -> None:
    """A folder at once: from a place beside it, by one rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parents[1], prefix=".arriving-") as partial:
        place = Path(partial) / "files"
        shutil.copytree(source, place)
        try:
            os.rename(place, target)
        except OSError:
            if not target.is_dir():  # nobody else put it there in the meantime
                raise


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parents[1], prefix=".arriving-")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.chmod(partial, 0o644)
    os.replace(partial, path)
