"""Rules of the reference pipeline: ISO 6346 container codes, which verify themselves, and any other text.

A code is three owner letters, a category letter (U, J or Z), six digits and a check digit, often printed in pieces.
Pieces on one line are joined. A letter in a digit's place, or the other way round, is read as its look-alike when
that makes the check digit right, and only then.
"""

import re
from dataclasses import dataclass

from stdnum import iso6346

from processors.rules.contract import AlertWanted
from schemas.types import Conclusion, FrameRef, Observation, Reading

NAME = "container_codes"
VERSION = 1

CODE = "container_code"
TEXT = "text"
ALERT_AFTER_FRAMES = 3

_LENGTH = 11
_SHAPE = re.compile(r"[A-Z]{3}[UJZ][0-9]{7}")
_TO_DIGIT = str.maketrans("OQDIZSBGLTA", "00012586174")
_TO_LETTER = str.maketrans("01258", "OIZSB")


@dataclass(frozen=True, slots=True)
class _Line:
    """Observations on one text line, left to right."""

    parts: tuple[Observation, ...]

    @property
    def text(self) -> str:
        return "".join(_compact(p.label) for p in self.parts)


def read(observations: tuple[Observation, ...]) -> tuple[Reading, ...]:
    """One reading a container code, and one for each other piece of text, in the order of the observations."""
    codes: list[Reading] = []
    used: set[int] = set()
    for line in _lines(observations):
        found = _code_in(line)
        if found is not None:
            codes.append(found[0])
            used |= found[1]
    texts = [_text(o) for o in observations if o.index not in used and o.label.strip()]
    return tuple(sorted((*codes, *texts), key=lambda r: r.observation_index))


def passage_of(frame: FrameRef) -> str | None:
    """The device's trigger says what passes; without one, frames stand alone."""
    return frame.passage_id


def ballot(readings: tuple[Reading, ...]) -> Reading | None:
    """The best code of the frame: one that verifies itself before one that does not, then the more confident one."""
    codes = [r for r in readings if r.kind == CODE]
    return max(codes, key=lambda r: (r.valid is True, r.confidence, r.label), default=None)


def alerts(conclusion: Conclusion) -> tuple[AlertWanted, ...]:
    """A passage that shows no valid code after some frames wants a person's eye."""
    if conclusion.frames_count < ALERT_AFTER_FRAMES or conclusion.valid is True:
        return ()
    best = conclusion.label or ""
    seen = f"the best reading is {best}, and its check digit is wrong" if best else "no code was read"
    return (
        AlertWanted(
            kind="unreadable_code",
            severity="warning",
            message=f"no valid container code after {conclusion.frames_count} frames: {seen}",
            evidence={
                "best_label": best,
                "frames_count": str(conclusion.frames_count),
                "votes_total": str(conclusion.votes_total),
            },
        ),
    )


def _code_in(line: _Line) -> tuple[Reading, set[int]] | None:
    """The line's best code and the observations that it was made of."""
    text = line.text
    windows = [
        (start, code) for start in range(len(text) - _LENGTH + 1) if (code := _as_code(text[start : start + _LENGTH])) is not None
    ]
    if not windows:
        return None
    start, code = max(windows, key=lambda w: (iso6346.is_valid(w[1]), -w[0]))
    parts = _parts_under(line, start, start + _LENGTH)
    reading = Reading(
        kind=CODE,
        label=code,
        confidence=min(p.confidence for p in parts),
        valid=bool(iso6346.is_valid(code)),
        observation_index=parts[0].index,
        polygon_px=_around(parts),
    )
    return reading, {p.index for p in parts}


def _as_code(window: str) -> str | None:
    """The window as a code: as it stands, or with look-alikes mended when that makes the check digit right."""
    if _SHAPE.fullmatch(window):
        return window
    mended = window[:4].translate(_TO_LETTER) + window[4:].translate(_TO_DIGIT)
    return mended if _SHAPE.fullmatch(mended) and iso6346.is_valid(mended) else None


def _parts_under(line: _Line, start: int, stop: int) -> tuple[Observation, ...]:
    parts, at = [], 0
    for part in line.parts:
        end = at + len(_compact(part.label))
        if at < stop and end > start:
            parts.append(part)
        at = end
    return tuple(parts)


def _lines(observations: tuple[Observation, ...]) -> list[_Line]:
    """Observations whose middles lie within each other's height, joined left to right."""
    lines: list[list[Observation]] = []
    for o in sorted((o for o in observations if _compact(o.label)), key=lambda o: (_middle_y(o), o.index)):
        for line in lines:
            if abs(_middle_y(line[-1]) - _middle_y(o)) < 0.5 * min(_height(line[-1]), _height(o)):
                line.append(o)
                break
        else:
            lines.append([o])
    return [_Line(tuple(sorted(line, key=lambda o: (min(o.polygon_px[0::2], default=0.0), o.index)))) for line in lines]


def _around(parts: tuple[Observation, ...]) -> tuple[float, ...]:
    if len(parts) == 1:
        return parts[0].polygon_px
    xs = [x for p in parts for x in p.polygon_px[0::2]]
    ys = [y for p in parts for y in p.polygon_px[1::2]]
    return (min(xs), min(ys), max(xs), min(ys), max(xs), max(ys), min(xs), max(ys))


def _text(o: Observation) -> Reading:
    return Reading(
        kind=TEXT,
        label=" ".join(o.label.split()),
        confidence=o.confidence,
        valid=None,
        observation_index=o.index,
        polygon_px=o.polygon_px,
    )


def _compact(label: str) -> str:
    return "".join(c for c in label.upper() if c.isascii() and c.isalnum())


def _middle_y(o: Observation) -> float:
    return sum(o.polygon_px[1::2]) / max(1, len(o.polygon_px) // 2)


def _height(o: Observation) -> float:
    ys = o.polygon_px[1::2]
    return max(ys) - min(ys) if ys else 0.0
