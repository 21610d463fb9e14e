"""What a dead letter says: where its record lay, who could not use it and why, and what its record was, byte for byte.

Anybody may write anything to vision.dead-letters, so nothing here raises: a record that is no letter of ours says so by an
empty topic. `dead_letters` writes them; `redrive` and `lookback.letters` read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from processors.dead_letters import PREFIX
from processors.redriven import PREFIX as REDRIVE_PREFIX
from processors.redriven import Redriven, headers_of, number_of, redriven_of, without_ours
from schemas.catalogue import TOPICS
from schemas.envelope import Headers, header
from schemas.types import EventId, SourcePosition, Superseded
from streams.records import Outgoing, Record

_OWN = ("topic", "partition", "offset", "appended_at_ms", "processor", "error_class", "error_message", "at", "counted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter. `appended_at_us` is when it was kept aside, `lay_at_ms` when the record was appended; -1 is unknown.

    `key` is None for a record that had none. `more` are the other things that were noted, such as step and endpoint.
    `redriven` is the redrive by which the record lay there, if it was one. `left_out` says what of the record is not here.
    """

    offset: int
    appended_at_us: int
    topic: str
    partition: int
    of_offset: int
    lay_at_ms: int
    processor: str
    error_class: str
    error_message: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    was_counted: bool
    superseded: Superseded | None
    redriven: Redriven | None
    left_out: str
    more: Mapping[str, str]

    @property
    def is_ours(self) -> bool:
        """Whether it names a record and who could not use it."""
        return self.topic in TOPICS and self.partition >= 0 and self.of_offset >= 0 and bool(self.processor)

    @property
    def case(self) -> str:
        """What is kept aside, whatever number of letters say so: a record that one processor could not use."""
        return case_of(self.topic, self.partition, self.of_offset, self.processor) if self.is_ours else f"letter {self.offset}"

    @property
    def of(self) -> str:
        return f"{self.topic}/{self.partition}/{self.of_offset}" if self.is_ours else ""

    @property
    def attempts(self) -> int:
        """How often the record was redriven before it was kept aside this time."""
        return 0 if self.redriven is None else self.redriven.attempt

    @property
    def device(self) -> str:
        """The record's key as text: of a frame's records, the device."""
        return (self.key or b"").decode("utf-8", "replace")


def case_of(topic: str, partition: int, offset: int, processor: str) -> str:
    """The name of a case."""
    return f"{topic}/{partition}/{offset} {processor}"


def letter_of(record: Record) -> Letter:
    """A record of vision.dead-letters, read."""
    told = {name: header(record.headers, PREFIX + name) for name in _OWN}
    # The first of a name is ours: a record may have been a letter before, and have such headers of its own.
    own = [(n.removeprefix(PREFIX), v) for n, v in reversed(record.headers) if n.startswith(PREFIX)]
    noted = {name: (value or b"").decode("utf-8", "replace") for name, value in own}
    keys = [value for name, value in record.headers if name == f"{PREFIX}key"]
    left_out = [name for name in ("value", "headers") if f"left_out_{name}_bytes" in noted]
    redriven = redriven_of(record)
    return Letter(
        offset=record.offset,
        appended_at_us=record.appended_at_ms * 1000,
        topic=told["topic"],
        partition=number_of(told["partition"]),
        of_offset=number_of(told["offset"]),
        lay_at_ms=number_of(told["appended_at_ms"]),
        processor=told["processor"],
        error_class=noted.get("failure") or told["error_class"],
        error_message=told["error_message"],
        key=keys[0] if keys else None,
        value=record.value,
        headers=without_ours(record.headers, PREFIX),
        was_counted=told["counted"] == "1",
        superseded=_superseded(noted),
        redriven=redriven,
        left_out=" and ".join(left_out),
        more={n: text for n, text in noted.items() if n not in (*_OWN, "key")},
    )


def _superseded(noted: Mapping[str, str]) -> Superseded | None:
    """The failure that the letter is of."""
    if not noted.get("outcome_id") or "outcome_release" not in noted:
        return None
    return Superseded(inference_id=EventId(noted["outcome_id"]), release=noted["outcome_release"] or None)


def again(letter: Letter, command: SourcePosition, command_id: str) -> tuple[Outgoing, Redriven]:
    """The letter's record as it goes to its topic again: the same key, value and headers, and the redrive beside them.

    It goes to the partition where it lay: there the reader keeps what it knows of the record's device. Our own producers chose
    that by the key; others may have chosen it by another hash.

    Args:
        command: Where the command lies, and which letter of it this is.
    """
    redriven = Redriven(
        source=command,
        reader=letter.processor,
        attempt=letter.attempts + 1,
        letter_offset=letter.offset,
        of_offset=letter.of_offset,
        command_id=command_id,
        was_counted=letter.was_counted,
        # One that failed again without an answer takes the place of what failed before it.
        supersedes=letter.superseded or (letter.redriven.supersedes if letter.redriven is not None else None),
    )
    headers = (*without_ours(letter.headers, REDRIVE_PREFIX), *headers_of(redriven))
    out = Outgoing(topic=letter.topic, key=letter.key, value=letter.value, headers=headers, partition=letter.partition)
    return out, redriven
