"""Everything that a question about the past may read, live or from an incident bundle. Nothing in it writes."""

from dataclasses import dataclass

from schemas.codec import Schemas
from streams.ports import BlobStore, EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What lookback asks. `source` says where answers come from: "the live log", or the bundle's path."""

    log: EventLog
    schemas: Schemas
    blobs: BlobStore
    source: str
