"""`hindsight export`: a window of the log in an open format."""

import enum
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption
from topology.cli.tables import Format, as_json

if TYPE_CHECKING:
    from processors.export.window import Window
    from processors.export.writing import Output, Tally
    from streams.past import Past

EXIT_INTERRUPTED = 130
_SAY_EVERY_S = 5.0
_SHOW_EVERY_S = 0.1
_GAP_MOST_S = 86_400


class As(enum.StrEnum):
    """What `--as` takes."""

    MCAP = "mcap"
    RRD = "rrd"
    JSONL = "jsonl"
    MP4 = "mp4"
    PARQUET = "parquet"


def register(app: typer.Typer) -> None:
    app.command(epilog='Example: hindsight export --from "10m ago" --device gate-1 -o gate-1.mcap')(export)


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file; for mp4 of several devices a folder.")],
    since: Annotated[str | None, typer.Option("--from", help="From this moment; from the start when not given.")] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Up to this moment, which is not in; up to now when not given.")
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="Only this device; may be given again. All when not given.")] = None,
    kind: Annotated[As | None, typer.Option("--as", help="The format; by the file's ending when not given.")] = None,
    longest_gap: Annotated[
        float, typer.Option(min=0, max=_GAP_MOST_S, help="mp4: seconds that a frame may stand at most; 0 for no limit.")
    ] = 10.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    tz: ZoneOption = None,
    bundle: BundleOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Write what the broker took in a window: for Foxglove (mcap), Rerun (rrd), programs (jsonl), people (mp4), tables (parquet).

    Files appear under their name once they are whole. Ends with 1, and leaves no file, when the window holds nothing.
    """
    from processors.export.formats import COUNTED, export_of, format_of
    from processors.export.window import spans
    from processors.export.writing import Choices, Output, Tally
    from streams.records import system_clock
    from topology.configuration import load
    from topology.moments import past_moment
    from topology.past import open_past

    settings = load().settings
    zone, now_us = tz or settings.timezone, system_clock()
    name = kind.value if kind is not None else "mp4" if output.is_dir() else format_of(output)
    from_us, to_us = (None if one is None else past_moment(one, zone=zone, now_us=now_us) for one in (since, until))
    run, began = export_of(name), time.monotonic()
    with open_past(settings, bundle, side_by_side=True) as past:
        window = _window(past, from_us, to_us, device or [])
        total = sum(max(0, span.stop - span.start) for span in spans(past.log, window, COUNTED[name]))
        with _progress(total) as said, _nothing_is_no(output):
            tally = Tally(said=said)
            with Output(output, overwrite=overwrite) as files:
                run(past, window, files, tally, Choices(longest_gap_ms=round(longest_gap * 1000)))
                if not tally.records:
                    raise _NothingThere
        _print(_summary(name, past, window, files, tally, time.monotonic() - began), zone, format)


def _window(past: "Past", from_us: int | None, to_us: int | None, devices: list[str]) -> "Window":
    """The window that is asked for. A bundle also has what its answers start from, which is before its own window."""
    from processors.export.window import Window

    for at_us in (from_us, to_us):
        past.hold(at_us=at_us)
    for device in devices:
        past.hold(device=device)
    if past.scope is not None and from_us is None:
        from_us = past.scope.from_us
    return Window(from_us=from_us, to_us=to_us, devices=frozenset(devices))


class _NothingThere(Exception):
    """The window holds nothing to write."""


@contextmanager
def _nothing_is_no(output: Path) -> Iterator[None]:
    try:
        yield
    except _NothingThere:
        typer.echo(f"the window holds nothing for {output}; no file was written", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("stopped; no file was written", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """How far it is, on stderr: a bar on a terminal, else a line each few seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("reading"), MofNCompleteColumn(), TextColumn("records"), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task("reading", total=total)
            yield _now_and_then(_SHOW_EVERY_S, lambda count: bars.update(task, completed=count))
        return
    yield _now_and_then(_SAY_EVERY_S, lambda count: typer.echo(f"{count} of at most {total} records", err=True))


def _now_and_then(every_s: float, say: Callable[[int], None]) -> Callable[[int], None]:
    last = time.monotonic()

    def said(count: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            say(count)

    return said


def _summary(name: str, past: "Past", window: "Window", files: "Output", tally: "Tally", took_s: float) -> dict[str, Any]:
    made = [{"file": str(file), "bytes": file.stat().st_size} for file in files.files]
    return {
        "format": name,
        "source": past.source,
        "from_us": window.from_us,
        "to_us": window.to_us,
        "devices": sorted(window.devices),
        "files": made,
        "bytes": sum(one["bytes"] for one in made),  # type: ignore[misc]  # sizes are whole
        "records": tally.records,
        "repeats": tally.repeats,
        "unreadable": tally.unreadable,
        "events": dict(sorted(tally.events.items())),
        "images": tally.images,
        "missing_images": dict(tally.missing.most_common()),
        "notes": {what: count for what, count in sorted(tally.notes.items()) if count},
        "took_s": round(took_s, 3),
    }


def _print(summary: dict[str, Any], zone: str, format: Format) -> None:
    from topology.moments import show_moment

    if format is Format.JSON:
        typer.echo(as_json(summary))
        return
    ends = [summary["from_us"], summary["to_us"]]
    begin, end = (None if at_us is None else show_moment(at_us, zone) for at_us in ends)
    typer.echo(f"window   {begin or 'the start of what is kept'} to {end or 'now'}, from {summary['source']}")
    typer.echo(f"records  {summary['records']}, of them {summary['repeats']} repeats and {summary['unreadable']} unreadable")
    for name, count in summary["events"].items():
        typer.echo(f"         {count:>8}  {name}")
    missing = sum(summary["missing_images"].values())
    typer.echo(f"images   {summary['images']}, and {missing} missing")
    for why, count in summary["missing_images"].items():
        typer.echo(f"         {count:>8}  {why}")
    for what, count in summary["notes"].items():
        typer.echo(f"note     {count} {what}")
    for one in summary["files"]:
        typer.echo(f"written  {one['file']}, {one['bytes']:,} bytes")
    typer.echo(f"took     {summary['took_s']:.1f} s")
