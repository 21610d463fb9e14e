"""Copies of records that were redriven from the dead letters: what followed from the last copy is what counts.

A record that its reader could not use, or could only call a failure, may lie on its topic again (`LetterRedriven` says where).
What it was read as then names the copy as its source, however much later that was. Whoever follows a frame asks here.
"""

from collections.abc import Iterable

from processors.lookback.scan import Entry, caused_by, entry_at, is_from
from schemas.catalogue import REDRIVES
from schemas.events import LetterRedriven
from streams.events import events_of
from streams.past import Past


class Redone:
    """The copies that a log knows of, as far as it tells of redrives."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._copies: dict[tuple[str, int, int], int] = {}
        if 0 in past.log.partitions(REDRIVES):
            for _, event in events_of(past.log, past.schemas, REDRIVES, 0):
                if isinstance(event, LetterRedriven):
                    self._copies[event.topic, event.partition, event.offset] = event.copy_offset

    def last(self, entry: Entry) -> Entry:
        """The record as it was put onto its topic last; itself where it never was, or where the log does not hold the copy."""
        place = entry.place
        offset = place.offset
        while (copy := self._copies.get((place.topic, place.partition, offset))) is not None and copy > offset:
            offset = copy
        if offset == place.offset:
            return entry
        return entry_at(self._past, place.topic, place.partition, offset) or entry

    def caused(self, topic: str, causes: Iterable[Entry]) -> dict[str, tuple[Entry, ...]]:
        """What each cause led to on a topic, by its id: of its last copy if that led to anything, else of itself."""
        asked = list(causes)
        found = {e.event_id: self._own(topic, e) for e in asked if self.last(e) is not e}
        rest = [e for e in asked if not found.get(e.event_id)]
        plain = caused_by(self._past, topic, rest)
        return found | {e.event_id: tuple(x for x in plain[e.event_id] if is_from(x, e)) for e in rest}

    def _own(self, topic: str, entry: Entry) -> tuple[Entry, ...]:
        copy = self.last(entry)
        return tuple(e for e in caused_by(self._past, topic, [copy])[copy.event_id] if is_from(e, copy))
