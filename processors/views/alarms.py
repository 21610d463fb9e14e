"""What a checker says on the log about views that differ: `AlertRaised` and `AlertCleared` on vision.monitoring.

Each view is a writer of its own (`hindsight/checks/<view>`), and the source of its events is the last record that the
view reflected, with an index that grows: so every reader counts each of them once, whichever worker wrote it. What
was said before is read from the log, so a worker that starts knows what stands.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from processors.views.checking import Difference
from schemas import ids
from schemas.catalogue import MONITORING
from schemas.codec import Schemas, decode, encode
from schemas.envelope import envelope_of, header, to_headers
from schemas.errors import ContractError
from schemas.events import AlertCleared, AlertRaised
from schemas.types import SourcePosition
from streams.ports import Appender, EventLog
from streams.records import Clock, Outgoing, Record

KIND = "view_differs"
CHECKS = "hindsight/checks/"  # who writes these alerts, with the view after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said about one view's partition: the newest source, and the alert that stands."""

    source: SourcePosition | None = None
    standing: AlertRaised | None = None


@dataclass(slots=True, kw_only=True)
class Alarms:
    """Reads and writes the alerts of all checks. Calls that read block."""

    log: EventLog
    appender: Appender
    schemas: Schemas
    clock: Clock
    _read_to: dict[int, int] = field(default_factory=dict)
    _said: dict[str, Said] = field(default_factory=dict)

    def standing(self, view: str, partition: int) -> AlertRaised | None:
        """The alert about a view's partition that stands on the log."""
        self._catch_up()
        return self._said.get(subject_of(view, partition), Said()).standing

    async def raise_alert(self, difference: Difference, topic: str, message: str, *, severity: str) -> AlertRaised:
        """Say that a view differs; returns when the broker holds it.

        Raises:
            LogUnavailableError: it does not answer.
        """
        subject = subject_of(difference.view, difference.partition)
        source = self._next_source(subject, topic, difference.partition, difference.held.position)
        event = AlertRaised(
            event_id=ids.event_id(source, f"AlertRaised {subject}"),
            source=source,
            alert_id=ids.named_id("alert", KIND, subject, str(source.offset), str(source.index)),
            subject=subject,
            kind=KIND,
            severity=severity,
            message=message,
            evidence={
                "position": str(difference.held.position),
                "view_digest": difference.held.digest,
                "log_digest": difference.wanted.digest,
                "log_position": str(difference.wanted.position),
                "view_keys": str(difference.held.keys_count),
                "log_keys": str(difference.wanted.keys_count),
                "keys": ", ".join(difference.keys)[:1000],
                "what": difference.what,
            },
            raised_at_us=self.clock(),
        )
        await self._send(event, difference.view)
        return event

    async def clear(self, alert: AlertRaised, view: str, reason: str) -> None:
        """Say that the view is what the log says again.

        Raises:
            LogUnavailableError: the broker does not answer.
        """
        at = alert.source
        source = self._next_source(alert.subject, at.topic, at.partition, at.offset + 1)
        event = AlertCleared(
            event_id=ids.event_id(source, f"AlertCleared {alert.subject}"),
            source=source,
            alert_id=alert.alert_id,
            subject=alert.subject,
            kind=KIND,
            reason=reason,
            cleared_at_us=self.clock(),
        )
        await self._send(event, view)

    def _next_source(self, subject: str, topic: str, partition: int, position: int) -> SourcePosition:
        wanted = SourcePosition(topic=topic, partition=partition, offset=max(position - 1, 0), index=0)
        last = self._said.get(subject, Said()).source
        if last is None or (last.offset, last.index) < (wanted.offset, wanted.index):
            return wanted
        return replace(last, index=last.index + 1)

    async def _send(self, event: AlertRaised | AlertCleared, view: str) -> None:
        envelope = envelope_of(
            event,
            source=f"{CHECKS}{view}",
            time_us=self.clock(),
            correlation_id=event.alert_id,
            causation_id=event.alert_id,
        )
        value = encode(event, self.schemas)
        await self.appender.append(
            Outgoing(topic=MONITORING, key=event.subject.encode(), value=value, headers=to_headers(envelope))
        )
        self._count(event)

    def _catch_up(self) -> None:
        for partition in self.log.partitions(MONITORING):
            bounds = self.log.bounds(MONITORING, partition)
            start = max(bounds.earliest, self._read_to.get(partition, 0))
            for event in self._own(self.log.read(MONITORING, partition, start, bounds.end)):
                self._count(event)
            self._read_to[partition] = bounds.end

    def _own(self, records: Iterator[Record]) -> Iterator[Any]:
        for record in records:
            if header(record.headers, "ce_source").startswith(CHECKS):
                try:
                    yield decode(record.value, MONITORING, self.schemas)
                except ContractError:
                    continue

    def _count(self, event: Any) -> None:
        said = self._said.get(event.subject, Said())
        newest = (said.source.offset, said.source.index) if said.source is not None else (-1, -1)
        if (event.source.offset, event.source.index) > newest:
            self._said[event.subject] = Said(source=event.source, standing=event if isinstance(event, AlertRaised) else None)


def subject_of(view: str, partition: int) -> str:
    """What alerts about a view's partition are about, such as view/device_results/2; also their key."""
    return f"view/{view}/{partition}"
