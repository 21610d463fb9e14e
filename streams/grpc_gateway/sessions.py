"""The sessions that a gateway holds: found by device and session, forgotten least recent first, counted per device."""

import asyncio
from collections import Counter, OrderedDict

from streams.grpc_gateway.intake import ByteBudget, SessionIntake
from streams.grpc_gateway.limits import GatewayLimits


class TooManyError(Exception):
    """A limit of the gateway is reached; what it says goes to the client."""


class Sessions:
    """Intakes by (device, session). One with work in flight is never forgotten."""

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self._budget = ByteBudget(limits.bytes_in_flight_max)
        self._intakes: OrderedDict[tuple[str, str], SessionIntake] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    def of(self, device_id: str, session_id: str) -> SessionIntake:
        """The session's intake, made when it is new.

        Raises:
            TooManyError: all the sessions that may be held have work in flight.
        """
        key = (device_id, session_id)
        if key not in self._intakes:
            self._make_room()
            self._intakes[key] = SessionIntake(
                self._budget, window_frames=self._limits.window_frames, remembered=self._limits.sequences_remembered
            )
        self._intakes.move_to_end(key)
        return self._intakes[key]

    async def close(self) -> None:
        """Give up everything in flight."""
        for intake in self._intakes.values():
            await intake.close()
        await asyncio.gather(*self._closing)

    def _make_room(self) -> None:
        if len(self._intakes) < self._limits.sessions_max:
            return
        idle = next((key for key, intake in self._intakes.items() if intake.unfinished == 0), None)
        if idle is None:
            raise TooManyError(f"{self._limits.sessions_max} sessions have frames in flight; try again later")
        closing = asyncio.create_task(self._intakes.pop(idle).close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class Places:
    """Streams open now, in all and for each device."""

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self._open = 0
        self._of_device: Counter[str] = Counter()

    def open(self) -> None:
        """Count a stream in.

        Raises:
            TooManyError: there are as many as may be.
        """
        if self._open >= self._limits.streams_max:
            raise TooManyError(f"{self._limits.streams_max} streams are open; try again later")
        self._open += 1

    def carry(self, device_id: str) -> None:
        """Count a stream in for a device.

        Raises:
            TooManyError: there are as many as may be.
        """
        if self._of_device[device_id] >= self._limits.streams_per_device_max:
            raise TooManyError(f"{self._limits.streams_per_device_max} streams carry frames of {device_id}; try again later")
        self._of_device[device_id] += 1

    def close(self, devices: set[str]) -> None:
        """Count a stream out, for itself and for the devices that it carried."""
        self._open -= 1
        for device_id in devices:
            self._of_device[device_id] -= 1
            if self._of_device[device_id] == 0:
                del self._of_device[device_id]
