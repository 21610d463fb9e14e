"""Opens the past: the live log with its blobs, or an incident bundle that needs no server at all.

Whoever reads a blob there that is gone is told why: erased by which order, or removed by which rule.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from processors.lookback.gone import TellingBlobs
from streams.past import Past
from topology import wiring
from topology.settings import Settings

LIVE = "the live log"


@contextmanager
def open_past(settings: Settings, bundle: Path | None, *, side_by_side: bool = False) -> Iterator[Past]:
    """The past to ask, closed afterwards.

    Args:
        bundle: An incident bundle to read instead of the servers.
        side_by_side: Whether many partitions are read at once.
    Raises:
        ContractError: the bundle is damaged, or is none.
        TransientError: a server does not answer.
    """
    if bundle is not None:
        from streams.bundle import open_bundle

        with open_bundle(bundle) as past:
            yield replace(past, blobs=TellingBlobs(past.blobs, past.log, past.schemas, by_digest=True))
        return
    log = wiring.event_log(settings, side_by_side=side_by_side)
    try:
        schemas, blobs = wiring.schemas(settings), wiring.blob_store(settings)
        told = TellingBlobs(blobs, log, schemas, blobs.expiry_rules)
        yield Past(log=log, schemas=schemas, blobs=told, source=LIVE)
    finally:
        log.close()


def pipeline_of(settings: Settings, past: Past) -> str:
    """The pipeline that is asked about: a bundle knows its own, whatever the settings here say."""
    return settings.pipeline.name if past.scope is None else past.scope.pipeline
