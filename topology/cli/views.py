"""`hindsight views`: hold the views against the log, and make them anew."""

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from topology.cli.options import FormatOption, ViewsArgument, chosen_views
from topology.cli.tables import Format, as_json, table

if TYPE_CHECKING:
    from processors.views.catalogue import View
    from topology.settings import Settings

_VERDICT = {True: "equal", False: "DIFFERENT"}


def register(app: typer.Typer) -> None:
    views = typer.Typer(help="Materialized views: folds of the log in Redis.", no_args_is_help=True)
    views.command(epilog="Example: hindsight views check device_results")(check)
    views.command(epilog="Example: hindsight views rebuild device_results")(rebuild)
    app.add_typer(views, name="views")


def check(names: ViewsArgument = None, format: FormatOption = Format.TABLE) -> None:
    """Compare each view with the fold of its log, by digest, and its running digest with what it holds; say how many records
    it is behind the log's end. Workers do this by themselves without end; this does all of it, now.

    Ends with 1 when one differs. Being behind is no difference: a worker that runs catches up.
    """
    from dataclasses import asdict

    from processors.views import upkeep

    checked = asyncio.run(_each(upkeep.check, chosen_views(names)))
    if format is Format.JSON:
        typer.echo(as_json([{**asdict(c), "equal": c.equal} for c in checked]))
    else:
        rows = [
            (
                c.view,
                c.partition,
                c.position,
                c.behind_records,
                c.keys_count,
                _VERDICT[c.view_digest == c.log_digest],
                c.view_digest[:16],
                c.running_digest[:16] if c.running_agrees else f"{c.running_digest[:16]} WRONG",
            )
            for c in checked
        ]
        typer.echo(table(("view", "partition", "position", "behind", "keys", "log", "digest", "running digest"), rows))
        for c in checked:
            if not c.running_agrees:
                typer.echo(f"{c.view} {c.partition}: the running digest is not that of the states", err=True)
            for key in c.different_keys[:10]:
                typer.echo(f"{c.view} {c.partition}: {key} is not what the log says", err=True)
    if not all(c.equal for c in checked):
        typer.echo("do: hindsight views rebuild", err=True)
        raise typer.Exit(1)


def rebuild(names: ViewsArgument = None, format: FormatOption = Format.TABLE) -> None:
    """Fold each view from the start of its log into a shadow and swap it in, while workers go on; then check what stands
    there. Ends with 1 when that differs."""
    from dataclasses import asdict

    from processors.views import upkeep

    rebuilt = asyncio.run(_each(upkeep.rebuild, chosen_views(names)))
    checked = {(c.view, c.partition): c for c in asyncio.run(_each(upkeep.check, chosen_views(names)))}
    if format is Format.JSON:
        typer.echo(as_json([{**asdict(r), "equal": checked[r.view, r.partition].equal} for r in rebuilt]))
    else:
        rows = [
            (
                r.view,
                r.partition,
                r.position,
                r.keys_count,
                "swapped in" if r.swapped else "OVERTAKEN",
                "equal" if checked[r.view, r.partition].equal else "DIFFERENT",
            )
            for r in rebuilt
        ]
        typer.echo(table(("view", "partition", "position", "keys", "outcome", "log"), rows))
    if not all(r.swapped for r in rebuilt):
        typer.echo("do: run it again; the live view was ahead of the shadow each time", err=True)
    if not all(r.swapped for r in rebuilt) or not all(c.equal for c in checked.values()):
        raise typer.Exit(1)


async def _each(work: Any, views: "list[View[Any]]") -> list[Any]:
    from topology import wiring
    from topology.cli.progress import Progress

    settings = _settings()
    using = wiring.clients(settings)
    try:
        every = [(view, partition) for view in views for partition in using.log.partitions(view.topic)]
        with Progress("partitions", len(every)) as progress:
            return [
                progress.passed(await work(view, using.log, using.views, using.schemas, partition, snapshot=using.snapshot))
                for view, partition in every
            ]
    finally:
        await using.close()


def _settings() -> "Settings":
    from topology.configuration import load

    return load().settings
