"""`hindsight explain`: why the system said what it said of a frame."""

from pathlib import Path
from typing import Annotated

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption
from topology.cli.tables import Format, as_json


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hindsight explain vision.results/2/118 --html result.html")(explain)


def explain(
    target: Annotated[
        str, typer.Argument(help="Id of a frame, a result, an alert or any event between them; or topic/partition/offset.")
    ],
    device: Annotated[str | None, typer.Option(help="Look for the id where this device's records lie.")] = None,
    at: Annotated[str | None, typer.Option(help="Look for the id around this moment first.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page with pictures that needs nothing beside itself.")] = None,
    bundle: BundleOption = None,
    tz: ZoneOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show the whole lineage of a frame as a tree: what was seen, by which models, by whose decision, by which votes.

    Parts that are not kept are named where they would stand.
    """
    from processors.lookback import explain as lookback
    from processors.lookback.page import page, pictures_of
    from processors.lookback.tree import lines, tree
    from schemas.plain import to_plain
    from streams.records import system_clock
    from topology.configuration import load
    from topology.moments import parse_moment, show_moment
    from topology.past import open_past
    from topology.rules import rules_at_hand

    settings = load().settings
    zone = tz or settings.timezone
    at_us = None if at is None else parse_moment(at, zone=zone, now_us=system_clock())

    def moment(time_us: int) -> str:
        return show_moment(time_us, zone)

    def say(told: str) -> None:
        typer.echo(told, err=True)

    with open_past(settings, bundle) as past:
        found = lookback.explain(past, target, rules=rules_at_hand(settings, say), device=device, at_us=at_us, say=say)
        if html is not None:
            _write(html, page(found, pictures_of(past, found), moment))
            say(f"{html} written")
    typer.echo(as_json(to_plain(found)) if format is Format.JSON else "\n".join(lines(tree(found, moment))))


def _write(file: Path, text: str) -> None:
    from schemas.errors import ConfigurationError

    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"--html: {file} cannot be written: {error}", setting="--html", do="name a file in a folder that is there and yours"
        ) from error
