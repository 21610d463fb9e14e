"""What was done with dead letters, by whom and why: one event for each letter that a command names.

One frozen class for each Avro record in `schemas/avro`; the `.avsc` is the source and says what each field
means. A test holds the two together, field by field.
"""

from dataclasses import dataclass

from schemas.types import EventId, SourcePosition


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterRedriven:
    """The record of a dead letter was put onto its topic again, for the processor that had kept it aside.

    Avro: hindsight.redrives.LetterRedriven v1.
    """

    event_id: EventId
    source: SourcePosition
    letter_offset: int
    topic: str
    partition: int
    offset: int
    processor: str
    copy_offset: int
    attempt: int
    supersedes: EventId | None = None
    command_id: EventId
    issued_by: str
    reason: str
    redriven_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterDiscarded:
    """Somebody looked at a dead letter and said that nothing more is to be done. Avro: hindsight.redrives.LetterDiscarded v1."""

    event_id: EventId
    source: SourcePosition
    letter_offset: int
    topic: str
    partition: int
    offset: int
    processor: str
    command_id: EventId
    issued_by: str
    reason: str
    discarded_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterRefused:
    """A dead letter was not redriven or not discarded, and why. Avro: hindsight.redrives.LetterRefused v1."""

    event_id: EventId
    source: SourcePosition
    letter_offset: int
    action: str
    refusal: str
    detail: str
    command_id: EventId
    issued_by: str
    refused_at_us: int
