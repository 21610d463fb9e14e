"""What the SDK gives back."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schemas.errors import ContractError
from schemas.events import ResultCorrected, ResultDerived
from schemas.types import FrameRef
from streams.records import Position

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Result = ResultDerived | ResultCorrected


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameReceipt:
    """Proof that blob store and broker hold a frame.

    Args:
        frame: As it stands on the log; `frame.frame_id` is also the task's id.
        position: Where on vision.frames.
    """

    frame: FrameRef
    position: Position

    @property
    def task_id(self) -> str:
        return self.frame.frame_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedResult:
    """One event of vision.results and where it lies.

    Args:
        event: `ResultDerived` for a frame, or `ResultCorrected` when a passage says something else by now.
        appended_at_ms: The broker's clock, ms since the epoch: when the system learned of it.
        traceparent: W3C trace context, or empty.
    """

    event: Result
    position: Position
    appended_at_ms: int
    traceparent: str

    @property
    def device_id(self) -> str:
        return self.event.frame.device_id if isinstance(self.event, ResultDerived) else self.event.device_id


def microseconds(at: datetime) -> int:
    """A time with an offset as microseconds since the epoch.

    Raises:
        ContractError: it has no offset, so nobody can know which moment it is.
    """
    if at.utcoffset() is None:
        raise ContractError(f"{at.isoformat()} has no offset", do="give it a tzinfo, such as datetime.UTC")
    return (at - _EPOCH) // timedelta(microseconds=1)
