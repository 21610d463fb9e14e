"""The run: round after round of faults under load, then healing, rest, and the verdict on everything that was sent so far.

    python -m tests.chaos --seed 7 --minutes 20

`Runner` works on a world that was started, and is what the short form in the tests uses as well; `main` brings up a stack of its
own, and writes what it found to docs/reference/chaos.* (`page.py`). A violated claim ends the command with 1.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas.types import FrameId
from tests.chaos import faults
from tests.chaos.memory import BOUND_BYTES, Memory
from tests.chaos.plan import Fault, Round, Strike
from tests.chaos.verdict import Logged, Violation, judge, late, swollen, waits_s
from tests.chaos.world import World

Say = Callable[[str], None]
_REST_POLL_S = 0.5
_CALM_S = 12.0
_TAIL_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one round came to. Moments in seconds from the run's beginning."""

    round: Round
    began_s: float
    healed_s: float
    rested_s: float
    acknowledged: int
    waits_s: dict[FrameId, float]
    acknowledged_s: dict[FrameId, float]
    spooled_most_s: float
    not_taken: int
    violations: tuple[Violation, ...]

    @property
    def worst_s(self) -> float:
        return max(self.waits_s.values(), default=0.0)


@dataclass(slots=True)
class Runner:
    """Runs rounds on a world, one after another.

    Args:
        rest_s: How long all that was sent may take to come to rest, beyond the round's bound.
    """

    world: World
    memory: Memory
    say: Say
    calm_s: float = _CALM_S
    tail_s: float = _TAIL_S
    rest_s: float = 60.0
    began_us: int = field(default_factory=lambda: time.time_ns() // 1000)
    logged: Logged = field(default_factory=Logged)
    _seen: set[FrameId] = field(default_factory=set)
    _not_taken: int = 0

    def run(self, rounds: Iterable[Round], *, until: Callable[[], bool]) -> Iterator[Found]:
        """Round after round; ends when it is time, and after the first one that broke a claim."""
        for one in rounds:
            found = self._round(one)
            yield found
            if found.violations or until():
                return

    def now_s(self) -> float:
        return time.time() - self.began_us / 1e6

    def _round(self, one: Round) -> Found:
        self.say(str(one))
        began_s = self.now_s()
        self.world.resume()
        troubles = self._strikes(one.strikes) if one.strikes else self._calm()
        time.sleep(self.tail_s)
        self.world.pause()
        healed_s = self.now_s()
        unrest = self._rest(one.bound_s + self.rest_s)
        return self._verdict(one, began_s, healed_s, (*troubles, *unrest))

    def _calm(self) -> tuple[Violation, ...]:
        time.sleep(self.calm_s)
        return ()

    def _strikes(self, strikes: tuple[Strike, ...]) -> tuple[Violation, ...]:
        """All strikes of a round, each at its moment; returns when all are healed."""
        troubles: list[Violation] = []

        def act(one: Strike) -> None:
            time.sleep(one.at_s)
            try:
                faults.strike(self.world, one, wait=time.sleep, say=lambda line: self.say(f"  {self.now_s():7.1f} s  {line}"))
            except Exception as error:  # whatever a fault led to is the round's to tell
                troubles.append(Violation(claim="every fault heals", words=f"{one.fault}: {error!r}"))

        threads = [threading.Thread(target=act, args=(one,), name=str(one.fault)) for one in strikes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return tuple(troubles)

    def _rest(self, within_s: float) -> tuple[Violation, ...]:
        """Wait until nothing moves any more; what still does at the deadline is a violation."""
        deadline = time.monotonic() + within_s
        while unrest := self.world.unrest():
            if time.monotonic() > deadline:
                return (Violation(claim="all comes to rest", words=f"not within {within_s:g} s: {unrest}"),)
            time.sleep(_REST_POLL_S)
        return ()

    def _verdict(self, one: Round, began_s: float, healed_s: float, so_far: tuple[Violation, ...]) -> Found:
        rested_s = self.now_s()
        told = self.world.told()
        self.logged = self.world.logged()
        acknowledged_at_us = {t.frame_id(s): at for t in told.values() for s, at in t.acknowledged.items()}
        fresh = {f: at for f, at in acknowledged_at_us.items() if f not in self._seen}
        self._seen |= fresh.keys()
        waited = waits_s(fresh, self.logged)
        spooled = [
            t.acknowledged[s] - t.offered[s]
            for t in told.values()
            for s in t.acknowledged
            if s in t.offered and t.frame_id(s) in fresh
        ]
        promised = self.world.promised(told)
        not_taken = sum(t.not_taken for t in told.values()) - self._not_taken
        self._not_taken += not_taken
        violations = (
            *so_far,
            *_idle(one, len(fresh), not_taken),
            *judge(promised, self.logged, self.world.shown()),
            *late(waited, one.bound_s),
            *swollen(self.memory.peaks(), BOUND_BYTES),
        )
        return Found(
            round=one,
            began_s=began_s,
            healed_s=healed_s,
            rested_s=rested_s,
            acknowledged=len(fresh),
            waits_s=waited,
            acknowledged_s={f: (at - self.began_us) / 1e6 for f, at in fresh.items()},
            spooled_most_s=max(spooled, default=0) / 1e6,
            not_taken=not_taken,
            violations=violations,
        )


def _idle(one: Round, acknowledged: int, not_taken: int) -> Iterator[Violation]:
    """A round that shows nothing: no frame flowed, or a disk that should be full was not."""
    if not acknowledged:
        yield Violation(claim="frames flow", words="none was acknowledged in this round")
    struck = {strike.fault for strike in one.strikes}
    # An edge client that is killed as well starts again without the limit on its files.
    if Fault.FULL_DISK in struck and Fault.KILL_EDGE not in struck and not not_taken:
        yield Violation(claim="every fault bites", words="a full disk refused no frame")


def line(found: Found) -> str:
    """One round, for people."""
    verdict = "holds" if not found.violations else "BROKEN"
    return (
        f"  {verdict}: {found.acknowledged} acknowledged, worst wait {found.worst_s:.1f} s of {found.round.bound_s:g} s, "
        f"spooled for {found.spooled_most_s:.1f} s at most, at rest {found.rested_s - found.healed_s:.1f} s after healing"
        + (f", {found.not_taken} refused by a full disk" if found.not_taken else "")
    )


def as_json(found: Found) -> dict[str, Any]:
    """One round, for the record."""
    return {
        "number": found.round.number,
        "faults": [str(strike.fault) for strike in found.round.strikes],
        "plan": str(found.round),
        "began_s": round(found.began_s, 1),
        "healed_s": round(found.healed_s, 1),
        "rested_s": round(found.rested_s, 1),
        "acknowledged": found.acknowledged,
        "worst_wait_s": round(found.worst_s, 2),
        "bound_s": found.round.bound_s,
        "spooled_most_s": round(found.spooled_most_s, 2),
        "refused_by_a_full_disk": found.not_taken,
        "waits": sorted((round(found.acknowledged_s[f], 1), round(w, 2)) for f, w in found.waits_s.items()),
        "violations": [str(v) for v in found.violations],
    }
