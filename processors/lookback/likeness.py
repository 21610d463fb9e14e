"""How near a text is to an expected one: over the whole text, by the number of signs to change, put in or leave out."""

from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

_PART_SIGNS_MIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """`distance` in signs, over letters and digits only; `is_part`: the text stands within the expected one."""

    distance: int
    is_part: bool
    near: bool


def compact(text: str) -> str:
    """Letters and digits, in capitals."""
    return "".join(c for c in text.upper() if c.isalnum())


def likeness(expected: str, text: str) -> Likeness:
    """Near is what differs in at most a third of the expected signs, or is a piece of it."""
    wanted, found = compact(expected), compact(text)
    distance = Levenshtein.distance(wanted, found)
    is_part = _PART_SIGNS_MIN <= len(found) < len(wanted) and found in wanted
    return Likeness(distance=distance, is_part=is_part, near=bool(found) and (distance <= max(1, len(wanted) // 3) or is_part))
