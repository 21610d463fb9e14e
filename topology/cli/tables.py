"""How commands print rows: for people as aligned columns, for programs as JSON."""

import enum
import json
from collections.abc import Iterable, Sequence
from typing import Any


class Format(enum.StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSON = "json"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Left-aligned columns, two spaces apart; the last one is never padded."""
    lines = [tuple(str(cell) for cell in row) for row in (tuple(name.upper() for name in header), *rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def bytes_in_words(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


def seconds_in_words(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"
