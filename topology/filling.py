"""The composition of `model_folder`: servers whose repository is filled from log and blob store before they load."""

from collections.abc import Callable, Mapping
from pathlib import Path

from processors.release.core import PipelineReleases
from schemas.events import ModelRegistered
from streams.past import Past
from streams.ports import ModelServer
from topology.model_folder import HoldingModels
from topology.model_store import ModelCache, registered
from topology.settings import Settings
from topology.wiring import Clients


def filled(
    settings: Settings, using: Clients, servers: tuple[ModelServer, ...], state: Callable[[], PipelineReleases]
) -> tuple[ModelServer, ...]:
    """The servers, filling `triton.repository` first; as they are when there is no such setting."""
    if not settings.triton.repository:
        return servers
    repository, pipeline = Path(settings.triton.repository).expanduser(), settings.pipeline.name
    past = Past(log=using.log, schemas=using.schemas, blobs=using.blobs, source="live")

    def known() -> tuple[Mapping[str, ModelRegistered], ModelCache]:
        found = {event.digest: event for event in registered(past, pipeline)}
        return found, ModelCache(
            repository.with_name(f"{repository.name}-fetched"), past.blobs, found, trusted=True, beside=repository
        )

    return tuple(HoldingModels(server, repository, state, known) for server in servers)
