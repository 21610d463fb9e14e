"""Sending commands to the processors that carry them out, and waiting for what they decide."""

import getpass
import time
import uuid
from collections.abc import Callable
from typing import Any

from processors.release.core import PipelineReleases
from processors.release.loader import command_record
from processors.views.catalogue import VIEWS
from processors.views.replay import fold_log
from schemas.catalogue import ERASURES, REDRIVES, RELEASES
from schemas.codec import decode
from schemas.errors import ConfigurationError, ContractError, TransientError
from schemas.events import CommandRefused
from schemas.types import EventId
from streams.records import Record, system_clock
from topology import wiring
from topology.settings import Settings

_POLL_S = 0.2
_WHERE_TO_LOOK = {
    RELEASES: "see that a worker runs (`hindsight status`), and look at `hindsight releases list`; what waits is ended by "
    "`hindsight releases abort`",
    ERASURES: "see that a worker runs the erase processor, and run it again",
    REDRIVES: "see that a worker runs the redrive processor, and look at `hindsight dlq list` before you run it again",
}


_DO_WHEN_REFUSED = {
    "another_promotion_waits": "wait for it, or call it off with `hindsight releases abort`; `hindsight releases list` shows it",
    "another_rollout_runs": "`hindsight releases list` shows it, `hindsight releases abort` ends it",
    "bad_value": "`hindsight releases show NAME` has the present values and what they may be",
    "gate_failed": "look at the window with `hindsight whatif`; --gate-limit sets another limit",
    "never_in_force": "`hindsight releases history` shows what read before",
    "not_ready": "`hindsight releases show NAME` says why; try again when it is loaded",
    "not_registered": "`hindsight releases list` shows those that are; `hindsight releases register` adds one",
    "nothing_in_force": "promote a release first: `hindsight releases promote NAME`",
    "registered_otherwise": "give it another name or version",
    "state_moved": "look at `hindsight releases list`, and decide again",
    "unknown_parameter": "`hindsight releases at now` shows those there are",
    "verdict_failed": "`hindsight releases show NAME` has the numbers; try it again as a canary, or add --despite-verdict",
}


class CommandRefusedError(ContractError):
    """The release processor refused; `refusal` is its code."""

    def __init__(self, event: CommandRefused) -> None:
        super().__init__(f"refused ({event.refusal}): {event.detail}", do=_DO_WHEN_REFUSED.get(event.refusal, ""))
        self.refusal = event.refusal


def new_command_id() -> EventId:
    return EventId(str(uuid.uuid4()))


def who() -> str:
    """The person at the keyboard, as the events will name them."""
    return getpass.getuser()


def releases_now(settings: Settings) -> PipelineReleases:
    """The releases of the pipeline, folded from the whole log."""
    log = wiring.event_log(settings)
    try:
        end = log.bounds(RELEASES, 0).end
        folded = fold_log(VIEWS["releases"], log, wiring.schemas(settings), 0, end, only_key=settings.pipeline.name)
    finally:
        log.close()
    return folded.states.get(settings.pipeline.name, VIEWS["releases"].initial)  # type: ignore[no-any-return]


def send(settings: Settings, command: Any, *, until: Callable[[Any], bool], timeout_s: float, topic: str = RELEASES) -> Any:
    """Send a command and wait for the event that settles it.

    Args:
        until: Whether an event caused by the command, or by what it set going, is the one waited for.
        topic: Where that event will be; it has one partition.
    Returns:
        That event.
    Raises:
        CommandRefusedError: the release processor refused.
        TransientError: nothing settled it in time; it may still be carried out.
        ConfigurationError: the time to wait is none.
    """
    if not timeout_s > 0:
        raise ConfigurationError(f"{timeout_s:g} s is no time to wait", setting="--wait", do="wait a second at least")
    log, schemas, appender = wiring.event_log(settings), wiring.schemas(settings), wiring.appender(settings)
    try:
        start = log.bounds(topic, 0).end
        future = appender.try_enqueue(command_record(command, schemas, system_clock()))
        assert future is not None, "a new appender has room"
        try:
            future.result(timeout_s)
        except TimeoutError as error:
            late = f"Kafka did not take {type(command).__name__} within {timeout_s:g} s; it may still be carried out"
            raise TransientError(late, do=_WHERE_TO_LOOK[topic]) from error
        deadline = time.monotonic() + timeout_s
        for record in log.follow(topic, {0: start}, lambda: time.monotonic() > deadline):
            event = _event(record, schemas)
            if isinstance(event, CommandRefused) and event.command_id == command.command_id:
                raise CommandRefusedError(event)
            if event is not None and getattr(event, "pipeline", None) == getattr(command, "pipeline", None) and until(event):
                return event
    finally:
        appender.close()
        log.close()
    raise TransientError(
        f"{type(command).__name__} was sent, and nothing settled it within {timeout_s:g} s; it may still be carried out",
        do=_WHERE_TO_LOOK[topic],
    )


def _event(record: Record | None, schemas: Any) -> Any:
    return None if record is None else decode(record.value, record.topic, schemas)
