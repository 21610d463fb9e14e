"""The newest state of a pipeline's releases, kept at hand by a thread that follows vision.releases from its start."""

import json
from threading import Event, Lock, Thread

import structlog

from processors.release import core
from processors.repeats import Seen, writer_of
from schemas.catalogue import RELEASES
from schemas.codec import Schemas, decode
from schemas.errors import ContractError, LogUnavailableError, TransientError
from streams.ports import EventLog
from streams.records import Record

log = structlog.get_logger()


class ReleaseFollower:
    """Follows one pipeline. `current` never blocks; `start` returns when everything up to now is counted."""

    def __init__(self, event_log: EventLog, schemas: Schemas, pipeline: str) -> None:
        self._log = event_log
        self._schemas = schemas
        self._pipeline = pipeline
        self._state = core.INITIAL
        self._offset = 0
        self._seen = Seen()
        self._lock = Lock()
        self._stopping = Event()
        self._caught_up = Event()
        self._thread = Thread(target=self._run, name="release-follower", daemon=True)

    def start(self, timeout_s: float = 30.0) -> None:
        """Begin to follow.

        Raises:
            LogUnavailableError: the log could not be read to its end in time.
        """
        self._thread.start()
        if not self._caught_up.wait(timeout_s):
            raise LogUnavailableError(
                f"{RELEASES} could not be read to its end within {timeout_s:g} s", do="check that Kafka runs: `hindsight status`"
            )

    def current(self) -> tuple[core.PipelineReleases, int]:
        """The state, and the offset of the next record of vision.releases that it does not count."""
        with self._lock:
            return self._state, self._offset

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                end = self._log.bounds(RELEASES, 0).end
                for record in self._log.follow(RELEASES, {0: self._offset}, self._stopping.is_set):
                    if record is not None:
                        self._count(record)
                    if self._offset >= end:
                        self._caught_up.set()
            except TransientError as error:
                log.warning("release follower waits", error=str(error))
                self._stopping.wait(0.5)

    def _count(self, record: Record) -> None:
        try:
            event = decode(record.value, RELEASES, self._schemas)
        except ContractError as error:
            log.error(
                "unreadable release event", offset=record.offset, error=str(error), value=json.dumps(str(record.value)[:100])
            )
            event = None
        with self._lock:
            self._offset = record.offset + 1
            if event is not None and event.pipeline == self._pipeline and not self._seen.is_repeat(event, writer_of(record)):
                self._seen = self._seen.with_event(event, writer_of(record))
                self._state = core.fold(self._state, event)
