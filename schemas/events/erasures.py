"""What was erased, by whose order.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.types import DeviceId, EventId, SourcePosition


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesErased:
    """A device's frames of a time cannot be read any more; their events stay. Avro: hindsight.erasures.FramesErased v1."""

    event_id: EventId
    source: SourcePosition
    device_id: DeviceId
    order_id: str
    captured_from_us: int
    captured_to_us: int
    frames_count: int
    frames_offsets: tuple[int, ...]
    key_ids: tuple[str, ...]
    encrypted_count: int
    removed_count: int
    kept_sha256: tuple[str, ...]
    kept_count: int
    derived_counts: Mapping[str, int]
    derived_digest: str
    issued_by: str
    reason: str
    ordered_at_us: int
    erased_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureRefused:
    """An order to erase was not carried out. Avro: hindsight.erasures.ErasureRefused v1."""

    event_id: EventId
    source: SourcePosition
    device_id: DeviceId
    order_id: str
    command_id: EventId
    refusal: str
    detail: str
    issued_by: str
    refused_at_us: int
