"""From the outcome of an order to the event that says so. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from processors.step import Cause
from schemas import ids
from schemas.events import EraseFrames, ErasureRefused, FramesErased


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """All of it is unreadable now."""

    frames_count: int
    frames_offsets: tuple[int, ...]
    key_ids: tuple[str, ...]
    encrypted_count: int
    removed_count: int
    kept_sha256: tuple[str, ...]
    kept_count: int
    derived_counts: Mapping[str, int]
    derived_digest: str
    erased_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing was done."""

    refusal: str
    detail: str


def decide(command: EraseFrames, outcome: Erased | Refused, cause: Cause) -> tuple[FramesErased | ErasureRefused]:
    """The one event that settles a command."""
    match outcome:
        case Erased():
            return (
                FramesErased(
                    event_id=ids.event_id(cause.position, "FramesErased"),
                    source=cause.position,
                    device_id=command.device_id,
                    order_id=command.order_id,
                    captured_from_us=command.captured_from_us,
                    captured_to_us=command.captured_to_us,
                    frames_count=outcome.frames_count,
                    frames_offsets=outcome.frames_offsets,
                    key_ids=outcome.key_ids,
                    encrypted_count=outcome.encrypted_count,
                    removed_count=outcome.removed_count,
                    kept_sha256=outcome.kept_sha256,
                    kept_count=outcome.kept_count,
                    derived_counts=outcome.derived_counts,
                    derived_digest=outcome.derived_digest,
                    issued_by=command.issued_by,
                    reason=command.reason,
                    ordered_at_us=command.issued_at_us,
                    erased_at_us=outcome.erased_at_us,
                ),
            )
        case Refused():
            return (
                ErasureRefused(
                    event_id=ids.event_id(cause.position, "ErasureRefused"),
                    source=cause.position,
                    device_id=command.device_id,
                    order_id=command.order_id,
                    command_id=command.command_id,
                    refusal=outcome.refusal,
                    detail=outcome.detail,
                    issued_by=command.issued_by,
                    refused_at_us=cause.now_us,
                ),
            )


def refusal_of(command: EraseFrames, earlier: EraseFrames | None) -> Refused | None:
    """Why an order is not carried out, if so: it spans nothing, or its number was given to something else before.

    Args:
        earlier: The first order with the same number on the log before this one.
    """
    if not command.order_id or command.captured_from_us >= command.captured_to_us:
        return Refused(refusal="empty_time", detail="an order has a number, and ends after it begins")
    if earlier is not None and _what(earlier) != _what(command):
        detail = f"order {command.order_id} was given before, for device {earlier.device_id} or for another time"
        return Refused(refusal="other_order", detail=detail)
    return None


def _what(command: EraseFrames) -> tuple[str, int, int]:
    return (command.device_id, command.captured_from_us, command.captured_to_us)
