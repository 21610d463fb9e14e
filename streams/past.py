"""Everything that a question about the past may read, live or from an incident bundle. Nothing in it writes."""

from dataclasses import dataclass

from schemas.codec import Schemas
from schemas.envelope import rfc3339
from schemas.errors import ContractError
from streams.ports import BlobStore, EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a bundle can answer about: moments from `from_us` to `to_us`, both included, and devices (None: all of them).

    `pipeline` is the one that the recorded system ran.
    """

    from_us: int
    to_us: int
    devices: tuple[str, ...] | None
    pipeline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What lookback asks. `source` says where answers come from: "the live log", or the bundle's path.

    `scope` is None where everything may be asked.
    """

    log: EventLog
    schemas: Schemas
    blobs: BlobStore
    source: str
    scope: Scope | None = None

    def hold(self, *, at_us: int | None = None, device: str | None = None) -> None:
        """Hold a question against what there is to answer it: nothing is guessed.

        Args:
            at_us: A moment that is asked about, microseconds since the epoch.
            device: A device that is asked about.
        Raises:
            ContractError: it lies outside; says what lies inside.
        """
        if self.scope is None:
            return
        first, last, devices = self.scope.from_us, self.scope.to_us, self.scope.devices
        if at_us is not None and not first <= at_us <= last:
            raise ContractError(
                f"{rfc3339(at_us)} is outside of {self.source}, which holds {rfc3339(first)} to {rfc3339(last)}",
                do="ask for a moment inside, or make a bundle of that time",
            )
        if device is not None and devices is not None and device not in devices:
            raise ContractError(
                f"{self.source} was made without {device}: it holds {', '.join(devices)}",
                do="make a bundle with that device, or without --device",
            )
