"""Runs one export of a recorded log into a folder."""

from pathlib import Path

from processors.export.formats import export_of
from processors.export.window import Window
from processors.export.writing import Choices, Output, Tally
from tests.unit.export.recorded import Recorded


def exported(
    recorded: Recorded, name: str, target: Path, window: Window | None = None, *, longest_gap_ms: int = 10_000
) -> tuple[tuple[Path, ...], Tally]:
    """The files and the count."""
    tally = Tally()
    with Output(target) as output:
        export_of(name)(recorded.past, window or Window(), output, tally, Choices(longest_gap_ms=longest_gap_ms))
    return output.files, tally
