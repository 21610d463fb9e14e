"""What the log says of model versions: each as it stands, two held against each other, and everything that was asked.

Next: `hindsight models` prints it.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.catalogue import RELEASES
from schemas.errors import ContractError
from schemas.events import CommandRefused, ModelRegistered
from streams.events import events_of
from streams.past import Past
from topology.configured import configuration_of
from topology.model_store import registered


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Something that was asked of a model version, and what came of it; the clock is the broker's."""

    appended_at_us: int
    event: ModelRegistered | CommandRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One difference: of what, its name, and its two values."""

    what: str
    name: str
    first: str
    second: str


def version_of(past: Past, pipeline: str, named: str) -> ModelRegistered:
    """A model version by its name, such as detection:3.

    Raises:
        ContractError: it is not registered.
    """
    found = [e for e in registered(past, pipeline) if f"{e.model}:{e.version}" == named]
    if not found:
        raise ContractError(f"no model {named} is registered", do="`hindsight models list` shows those that are")
    return found[-1]


def differences(first: ModelRegistered, second: ModelRegistered) -> tuple[Row, ...]:
    """Files, measures and lineage that differ; "-" stands for what one of them lacks."""
    sides = [
        {
            "file": {f.path: f.blob.sha256 for f in event.files},
            "measure": {k: f"{v:g}" for k, v in event.metrics.items()},
            "lineage": dict(event.lineage),
        }
        for event in (first, second)
    ]
    return tuple(
        Row(what=what, name=name, first=sides[0][what].get(name, "-"), second=sides[1][what].get(name, "-"))
        for what in ("file", "measure", "lineage")
        for name in sorted(sides[0][what].keys() | sides[1][what].keys())
        if sides[0][what].get(name) != sides[1][what].get(name)
    )


def configuration_diff(past: Past, first: ModelRegistered, second: ModelRegistered) -> tuple[str, ...]:
    """The two configurations as a unified diff; nothing when they are the same.

    Raises:
        ContractError: one is gone from the blob store.
    """
    one, other = ((configuration_of(event, past.blobs) or "").splitlines() for event in (first, second))
    names = [f"{event.model}:{event.version}" for event in (first, second)]
    return tuple(difflib.unified_diff(one, other, fromfile=names[0], tofile=names[1], lineterm=""))


def history(past: Past, pipeline: str, model: str | None = None) -> Iterator[Told]:
    """Every registration and every refused one, oldest first.

    Args:
        model: Only this model's. A refusal names its model in its words only, so that all of them are given then too when
            they speak of it.
    """
    for partition in past.log.partitions(RELEASES):
        for record, event in events_of(past.log, past.schemas, RELEASES, partition):
            is_refusal = isinstance(event, CommandRefused) and event.command == "RegisterModel"
            if not (isinstance(event, ModelRegistered) or is_refusal) or event.pipeline != pipeline:
                continue
            about = (
                event.model
                if isinstance(event, ModelRegistered)
                else event.detail.partition(" is registered")[0].partition(":")[0]
            )
            if model is None or about == model:
                yield Told(appended_at_us=record.appended_at_ms * 1000, event=event)
