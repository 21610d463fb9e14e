"""Acts on what a check finds: says so on the log, repairs the view from the log, checks again, and says that too.

A repair folds the log into a fold of its own and swaps it in whole, as a rebuild does, while workers go on. It is made
once: a view that differs again soon after has a fault in what writes it, which no rebuild mends. Then the alert
stands as critical, and nothing more is done until the view is right by itself or by somebody's hand.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from processors.metrics import VIEW_CHECKS, VIEW_DIFFERENCES, VIEW_REPAIRS, VIEW_VERIFIED
from processors.views.alarms import Alarms
from processors.views.checking import Difference, Outcome, ViewCheck
from processors.views.own_fold import OwnFold
from schemas.codec import Schemas
from schemas.events import AlertRaised
from streams.ports import EventLog, Stored, ViewStore

log = structlog.get_logger()
_SWAP_TRIES = 20
_CHECKED_AGAIN_TURNS = 10_000


class ViewWatch:
    """One view's partition under watch.

    Args:
        may_repair: Whether to repair, or only to say what differs.
        once_in_s: How long after a repair another one is not made.
        now_s: A clock that only goes forward, in seconds.
    """

    def __init__(
        self,
        check: ViewCheck,
        alarms: Alarms,
        *,
        event_log: EventLog,
        views: ViewStore,
        schemas: Schemas,
        folder: Path,
        may_repair: bool,
        once_in_s: float,
        now_s: Callable[[], float],
    ) -> None:
        self.check = check
        self._alarms = alarms
        self._log = event_log
        self._views = views
        self._schemas = schemas
        self._folder = folder
        self._may_repair = may_repair
        self._once_in_s = once_in_s
        self._now_s = now_s
        self._repaired_at_s: float | None = None
        self._standing: AlertRaised | None = None
        self._knows_what_stands = False
        self._given_up = False

    @property
    def has_swept(self) -> bool:
        """Whether every state has been compared since the check began."""
        return self.check.sweeps > 0

    async def turn(self) -> bool:
        """One turn of the check, and all that follows from it.

        Returns:
            Whether the next turn has work waiting, and need not wait for news.
        Raises:
            TransientError: something is away; the next turn goes on.
        """
        view, partition = self.check.view.name, str(self.check.partition)
        if not self._knows_what_stands:
            self._standing = await asyncio.to_thread(self._alarms.standing, view, self.check.partition)
            self._knows_what_stands = True
        found = await self.check.turn(name_keys=not self._given_up)
        if isinstance(found, Difference):
            VIEW_CHECKS.labels(view, partition, "different").inc()
            await self._found(found)
            return False
        VIEW_CHECKS.labels(view, partition, found.value).inc()
        if found is Outcome.EQUAL:
            VIEW_VERIFIED.labels(view, partition).set(self.check.own.position)
            if self._standing is not None and self.has_swept:
                await self._all_clear()
        return found is Outcome.BEHIND or self.check.is_mid_sweep

    async def _found(self, difference: Difference) -> None:
        view, partition = difference.view, difference.partition
        self.check.sweeps = 0
        if self._given_up:
            return
        # Another worker that had this partition may have said it already.
        self._standing = await asyncio.to_thread(self._alarms.standing, view, partition)
        VIEW_DIFFERENCES.labels(view, str(partition)).inc()
        again = self._repaired_at_s is not None and self._now_s() - self._repaired_at_s < self._once_in_s
        log.error(
            "view differs from its log", view=view, partition=partition, what=difference.what, keys=difference.keys, again=again
        )
        said = f"view {view}, partition {partition}: {difference.what}"
        if again:
            said += "; it was repaired shortly before, so what writes it is at fault, and it is not repaired again"
        if self._standing is None or again:
            severity = "critical" if again else "warning"
            self._standing = await self._alarms.raise_alert(difference, self.check.view.topic, said, severity=severity)
        if again or not self._may_repair:
            self._given_up = True
            log.critical("view is not repaired", view=view, partition=partition, again=again, may_repair=self._may_repair)
            return
        await self._repair(difference)

    async def _repair(self, difference: Difference) -> None:
        self._repaired_at_s = self._now_s()
        swapped = await self._swap_in()
        outcome = "repaired" if swapped and await self._is_right_now() else "failed"
        VIEW_REPAIRS.labels(difference.view, str(difference.partition), outcome).inc()
        if outcome == "repaired":
            await self._all_clear()
            return
        self._given_up = True
        log.critical("view could not be repaired", view=difference.view, partition=difference.partition, swapped=swapped)

    async def _swap_in(self) -> bool:
        """Fold the log anew and put that in the view's place, unless the view stays ahead of it through every try."""
        old = self.check.own
        fresh = OwnFold(self.check.view, self.check.partition, self._folder) if old.is_whole else old
        try:
            for _ in range(_SWAP_TRIES):
                bounds = await asyncio.to_thread(self._log.bounds, fresh.view.topic, fresh.partition)
                if fresh.position < bounds.earliest:
                    # What the log still holds does not make the whole view: the fold kept beside it does.
                    fresh.close()
                    fresh = old
                while fresh.position < bounds.end:
                    await asyncio.to_thread(fresh.advance, self._log, self._schemas, bounds.end, most=1000)
                stored: Stored = fresh.as_stored()
                if await self._views.replace(fresh.view.name, fresh.partition, stored):
                    return True
        finally:
            if fresh is not old:
                fresh.close()
        return False

    async def _is_right_now(self) -> bool:
        """Whether the view equals the log, every state of it, by a check that begins anew where it can."""
        if self.check.own.is_whole:
            self.check.start_anew()
        self.check.sweeps = 0
        for _ in range(_CHECKED_AGAIN_TURNS):
            found = await self.check.turn()
            if isinstance(found, Difference):
                log.critical("view differs again", view=found.view, partition=found.partition, what=found.what)
                return False
            if self.has_swept:
                return True
        return False

    async def _all_clear(self) -> None:
        assert self._standing is not None, "what is cleared was raised"
        position = self.check.own.position
        await self._alarms.clear(self._standing, self.check.view.name, f"equal to the log at {position}, every state")
        log.info("view equals its log", view=self.check.view.name, partition=self.check.partition, position=position)
        self._standing, self._given_up = None, False
