"""What goes wrong, and when: a seed gives an endless row of rounds, the same ones every time. Pure.

The first pass over all faults has one in each round, so that what a fault does is seen by itself; every later pass has two
in each round, which overlap. `faults.py` does them to real processes, `bounds` says how long a frame may wait because of one.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Everything that a round may do. The values are what people read."""

    KILL_WORKER = "kill -9 of a worker"
    KILL_GATEWAY = "kill -9 of the gateway"
    KILL_EDGE = "kill -9 of an edge client"
    KILL_TRITON = "kill -9 of Triton"
    KILL_MODEL = "kill -9 of a model process"
    KILL_REDIS = "kill -9 of Redis"
    KILL_KAFKA = "kill -9 of the broker"
    KILL_REGISTRY = "kill -9 of the registry"
    KILL_S3 = "kill -9 of S3"
    STOP_WORKER = "SIGSTOP of a worker"
    STOP_TRITON = "SIGSTOP of Triton"
    STOP_REDIS = "SIGSTOP of Redis"
    STOP_KAFKA = "SIGSTOP of the broker"
    FULL_DISK = "full disk under a spool"
    FLUSH_REDIS = "Redis emptied"
    ADD_WORKER = "a worker added and removed"
    ROLL_WORKERS = "rolling restart of all workers"


_HELD = {
    Fault.STOP_WORKER,
    Fault.STOP_TRITON,
    Fault.STOP_REDIS,
    Fault.STOP_KAFKA,
    Fault.FULL_DISK,
    Fault.ADD_WORKER,
}
# Seconds, over the time that a fault is held: what a frame may wait from its acknowledgement to its result on two busy cores.
_RECOVERY_S = {
    Fault.KILL_WORKER: 45.0,
    Fault.KILL_GATEWAY: 30.0,
    Fault.KILL_EDGE: 30.0,
    Fault.KILL_TRITON: 90.0,
    Fault.KILL_MODEL: 60.0,
    Fault.KILL_REDIS: 45.0,
    Fault.KILL_KAFKA: 90.0,
    Fault.KILL_REGISTRY: 60.0,
    Fault.KILL_S3: 45.0,
    Fault.STOP_WORKER: 45.0,
    Fault.STOP_TRITON: 60.0,
    Fault.STOP_REDIS: 45.0,
    Fault.STOP_KAFKA: 90.0,
    Fault.FULL_DISK: 30.0,
    Fault.FLUSH_REDIS: 45.0,
    Fault.ADD_WORKER: 45.0,
    Fault.ROLL_WORKERS: 90.0,
}
CALM_BOUND_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One fault of a round.

    Args:
        at_s: When, from the round's beginning.
        hold_s: How long it stands until it is healed; 0 where it is over at once.
        pick: Which of several processes, taken modulo their number.
    """

    fault: Fault
    at_s: float
    hold_s: float = 0.0
    pick: int = 0

    @property
    def bound_s(self) -> float:
        """How long a frame that was acknowledged may wait for its result because of this fault."""
        return self.hold_s + _RECOVERY_S[self.fault]

    def __str__(self) -> str:
        held = f" for {self.hold_s:g} s" if self.hold_s else ""
        return f"{self.fault}{held} at {self.at_s:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Faults under load, then healing, then the verdict. Without strikes it says what is usual."""

    number: int
    strikes: tuple[Strike, ...]

    @property
    def bound_s(self) -> float:
        """Faults that overlap may add up."""
        return sum(strike.bound_s for strike in self.strikes) or CALM_BOUND_S

    @property
    def name(self) -> str:
        return " + ".join(str(strike.fault) for strike in self.strikes) or "no fault"

    def __str__(self) -> str:
        return f"round {self.number}: {'; '.join(map(str, self.strikes)) or 'no fault'} (bound {self.bound_s:g} s)"


def rounds(seed: int, *, hold_s: float, faults: Sequence[Fault] = tuple(Fault), together: int = 1) -> Iterator[Round]:
    """The rounds of a seed, for ever; round 0 has no fault.

    Args:
        hold_s: How long what is stopped or filled stays so.
        faults: Which there are.
        together: How many a round of the first pass has; later passes have one more.
    """
    rng = random.Random(seed)
    yield Round(number=0, strikes=())
    number, size = 1, together
    while True:
        deck = list(faults)
        rng.shuffle(deck)
        for low in range(0, len(deck), size):
            yield Round(number=number, strikes=tuple(_strike(rng, fault, hold_s) for fault in deck[low : low + size]))
            number += 1
        size = min(together + 1, len(faults))


def _strike(rng: random.Random, fault: Fault, hold_s: float) -> Strike:
    return Strike(
        fault=fault,
        at_s=round(rng.uniform(1.0, 6.0), 1),
        hold_s=hold_s if fault in _HELD else 0.0,
        pick=rng.randrange(1000),
    )
