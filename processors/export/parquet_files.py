"""Parquet: two flat tables. FILE has a row for each reading, FILE's name with `.frames` a row for each frame.

Readings are of the results that the broker took in the window; frames are those that it took in the window, with what was
known of them by its end. Times are microseconds UTC, texts that repeat are dictionaries, and each file says in its
metadata (`hindsight`) where it comes from. Rows are written in groups, so memory is bounded.
"""

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processors.export.moments import Moment, moments
from processors.export.parquet_rows import FRAME_COLUMNS, READING_COLUMNS, Column, frame_row, reading_rows
from processors.export.stories import stories
from processors.export.window import Window
from processors.export.writing import Choices, Output, Tally, describe, needs
from schemas.catalogue import RESULTS
from schemas.events import ResultDerived
from streams.past import Past

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_IN_A_GROUP = 20_000


def export(past: Past, window: Window, output: Output, tally: Tally, choices: Choices) -> None:
    """Both tables; repeats are left out."""
    try:
        import pyarrow.parquet  # noqa: F401  # asked for here, so that nothing is begun without it
    except ImportError as error:
        raise needs("export", "pyarrow") from error
    about = json.dumps(describe(past, window))
    with ExitStack() as opened:
        readings = opened.enter_context(closing(_Table(output.partial(output.target), READING_COLUMNS, about)))
        frames = opened.enter_context(closing(_Table(output.partial(frames_file(output.target)), FRAME_COLUMNS, about)))
        for moment in opened.enter_context(closing(moments(past, window, (RESULTS,)))):
            tally.count(moment)
            if _is_result(moment):
                readings.add(*reading_rows(moment.event, moment.record))
        for story in opened.enter_context(closing(stories(past, window))):
            tally.count(story.captured)
            frames.add(frame_row(story))


def frames_file(target: Path) -> Path:
    """Where the table of frames goes."""
    return target.with_name(f"{target.stem}.frames{target.suffix}")


def _is_result(moment: Moment) -> bool:
    return isinstance(moment.event, ResultDerived) and not moment.is_repeat


class _Table:
    """One file, a group of rows at a time. Closing it writes the rest."""

    def __init__(self, file: Path, columns: tuple[Column, ...], about: str) -> None:
        import pyarrow.parquet as pq

        self._schema = _schema(columns, about)
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, *rows: dict[str, Any]) -> None:
        self._rows += rows
        if len(self._rows) >= ROWS_IN_A_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema), row_group_size=ROWS_IN_A_GROUP)
            self._rows = []


def _schema(columns: tuple[Column, ...], about: str) -> "pa.Schema":
    import pyarrow as pa

    kinds = {
        "text": pa.string(),
        "name": pa.dictionary(pa.int32(), pa.string()),
        "whole": pa.int64(),
        "number": pa.float64(),
        "truth": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "numbers": pa.list_(pa.float64()),
        "texts": pa.list_(pa.string()),
        "measures": pa.map_(pa.string(), pa.float64()),
    }
    fields = [pa.field(c.name, kinds[c.kind], nullable=c.nullable, metadata={"doc": c.doc}) for c in columns]
    return pa.schema(fields, metadata={"hindsight": about})
