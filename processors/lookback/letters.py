"""Dead letters as evidence: what was kept aside, where it lay, and what was wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass

from processors.dead_letters import PREFIX
from processors.lookback.scan import Place, header_bytes, place_of, start_of
from schemas.catalogue import DEAD_LETTERS
from schemas.envelope import header
from streams.past import Past
from streams.records import Record

_MOST = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One record that was kept aside; `of` is the position where it lay, `key` its own key as text."""

    position: Place
    of: str
    key: str
    processor: str
    error_class: str
    error_message: str


def letters_between(past: Past, from_us: int, to_us: int) -> Iterator[DeadLetter]:
    """Dead letters that were written between two moments, at most 20,000, in their order."""
    if 0 not in past.log.partitions(DEAD_LETTERS):
        return
    start = start_of(past, DEAD_LETTERS, 0, from_us)
    stop = min(past.log.offset_at(DEAD_LETTERS, 0, to_us // 1000 + 1), start + _MOST)
    for record in past.log.read(DEAD_LETTERS, 0, start, stop):
        yield _letter(record)


def letters_of(past: Past, place: Place, *, within_s: float = 3600.0) -> tuple[DeadLetter, ...]:
    """Copies of one record that were kept aside within a time after it was appended."""
    until_us = place.appended_at_us + round(within_s * 1e6)
    return tuple(letter for letter in letters_between(past, place.appended_at_us, until_us) if letter.of == str(place))


def _letter(record: Record) -> DeadLetter:
    told = {name: header(record.headers, f"{PREFIX}{name}") for name in ("topic", "partition", "offset")}
    return DeadLetter(
        position=place_of(record),
        of="/".join(told.values()),
        key=header_bytes(record, f"{PREFIX}key").decode("utf-8", "replace"),
        processor=header(record.headers, f"{PREFIX}processor"),
        error_class=header(record.headers, f"{PREFIX}error_class"),
        error_message=header(record.headers, f"{PREFIX}error_message"),
    )
