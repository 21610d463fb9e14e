"""Text of others, made fit to be shown: labels, reasons and names on the log are whatever somebody sent."""

import unicodedata

_LONGEST = 400
# Signs that turn the direction of what follows, or show nothing at all.
_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def shown(text: object) -> str:
    """One line in which every control, format and invisible sign is written out as an escape, and too long ends in dots."""
    made = "".join(_sign(c) for c in str(text)[: _LONGEST + 1])
    return made if len(str(text)) <= _LONGEST else made[:_LONGEST] + "..."


def _sign(c: str) -> str:
    if unicodedata.category(c) not in _HIDDEN:
        return c
    code = ord(c)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def milliseconds(duration_us: int | None) -> str:
    """A duration in ms, or a dash where nobody measured."""
    return "-" if duration_us is None else f"{duration_us / 1000:.1f} ms"


def proof(valid: bool | None) -> str:
    """What a reading's own proof says, such as a check digit."""
    return {True: "valid", False: "check digit wrong", None: "not verifiable"}[valid]


def box(polygon_px: object) -> str:
    """The box around a polygon, as x0,y0 to x1,y1 in whole pixels."""
    numbers = list(polygon_px) if isinstance(polygon_px, (list, tuple)) else []
    xs, ys = numbers[0::2], numbers[1::2]
    return f"{min(xs):.0f},{min(ys):.0f} to {max(xs):.0f},{max(ys):.0f}" if xs and ys else "-"
