"""`hindsight snapshots`: the views' snapshots, seen, taken, held against the log, and thinned."""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.options import BundleOption, FormatOption, ViewsArgument, ZoneOption, chosen_views
from topology.cli.tables import Format, as_json, table

if TYPE_CHECKING:
    from processors.snapshots.keeping import Keeper


def register(app: typer.Typer) -> None:
    snapshots = typer.Typer(help="Snapshots of the views in the blob store.", no_args_is_help=True)
    snapshots.command("list", epilog="Example: hindsight snapshots list device_results")(list_)
    snapshots.command(epilog="Example: hindsight snapshots take --fresh device_results")(take)
    snapshots.command(epilog="Example: hindsight snapshots check")(check)
    snapshots.command(epilog="Example: hindsight snapshots thin")(thin)
    app.add_typer(snapshots, name="snapshots")


def list_(
    names: ViewsArgument = None, tz: ZoneOption = None, bundle: BundleOption = None, format: FormatOption = Format.TABLE
) -> None:
    """Show which snapshots are kept: each is what was known from one moment until another."""
    from processors.snapshots.manifest import fold_of
    from processors.snapshots.reading import Snapshots
    from topology.configuration import load
    from topology.moments import show_moment
    from topology.past import open_past

    settings, found, notes = load().settings, list[dict[str, Any]](), list[str]()
    with open_past(settings, bundle) as past:
        reading = Snapshots(past.log, past.schemas, past.blobs)
        for view in chosen_views(names):
            for partition in past.log.partitions(view.topic):
                for one in sorted(reading.names(view, partition, notes), key=lambda n: n.offset):
                    if past.scope is not None and not past.blobs.exists(one.ref()):
                        continue  # it was kept then, and is not in the bundle
                    found.append(
                        {
                            "view": view.name,
                            "partition": partition,
                            "offset": one.offset,
                            "known_from_us": one.known_from_ms * 1000,
                            "known_until_us": one.known_until_ms * 1000,
                            "is_readable": one.fold == fold_of(view),
                            "manifest_sha256": one.sha256,
                        }
                    )
        if reading.away is not None:
            raise reading.away
    if format is Format.JSON:
        typer.echo(as_json({"snapshots": found, "notes": notes}))
        return
    zone = tz or settings.timezone
    rows = [
        (
            one["view"],
            one["partition"],
            one["offset"],
            show_moment(one["known_from_us"], zone),
            "" if one["is_readable"] else "by another version",
        )
        for one in found
    ]
    typer.echo(table(("view", "partition", "offset", "as known from", ""), rows))
    for note in notes:
        typer.echo(note, err=True)


def take(
    names: ViewsArgument = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Fold the log from its start, whatever snapshots there are.")] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Take a snapshot of each view now. Workers do this by themselves; ends with 0 also where nothing is new."""
    taken = [made for made in _each(names, lambda keeper: keeper.take_now(fresh=fresh)) if made is not None]
    rows = [
        {
            "view": made.view,
            "partition": made.partition,
            "offset": made.offset,
            "keys_count": made.keys_count,
            "pieces": sum(piece is not None for piece in made.pieces),
            "digest": made.digest,
        }
        for made in taken
    ]
    if format is Format.JSON:
        typer.echo(as_json(rows))
    elif rows:
        typer.echo(table(tuple(rows[0]), [[str(value)[:16] for value in row.values()] for row in rows]))
    else:
        typer.echo("nothing is new")


def check(names: ViewsArgument = None, bundle: BundleOption = None, format: FormatOption = Format.TABLE) -> None:
    """Hold every kept snapshot against the fold of its log, by digest. Ends with 1 when one is not what it should be."""
    from dataclasses import asdict

    from processors.snapshots import checking
    from topology.configuration import load
    from topology.past import open_past

    found: list[checking.Checked] = []
    with open_past(load().settings, bundle) as past:
        for view in chosen_views(names):
            for partition in past.log.partitions(view.topic):
                found += checking.check(view, past.log, past.schemas, past.blobs, partition, scope=past.scope)
    if format is Format.JSON:
        typer.echo(as_json([asdict(one) for one in found]))
    else:
        rows = [(c.view, c.partition, c.offset, c.keys_count, c.verdict, c.detail) for c in found]
        typer.echo(table(("view", "partition", "offset", "keys", "log", "why"), rows))
    if not all(one.is_good for one in found):
        typer.echo("do: hindsight snapshots take --fresh", err=True)
        raise typer.Exit(1)


def thin(names: ViewsArgument = None, format: FormatOption = Format.TABLE) -> None:
    """Let go of snapshots that the settings no longer keep, and remove what only they hold. Workers do this by themselves."""
    gone = sum(_each(names, lambda keeper: keeper.thin()))
    typer.echo(as_json({"let_go": gone}) if format is Format.JSON else f"{gone} snapshots let go")


def _each(names: list[str] | None, work: "Callable[[Keeper], Any]") -> list[Any]:
    """Do something with the keeper of each partition of the chosen views."""
    import structlog

    from topology import wiring
    from topology.cli.progress import Progress
    from topology.configuration import load
    from topology.snapshots import keepers, ports_of

    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))  # stdout is for what was asked
    settings, views = load().settings, chosen_views(names)

    async def run() -> list[Any]:
        using = wiring.clients(settings)
        try:
            ports = ports_of(using)
            found = await asyncio.to_thread(keepers, ports, settings.snapshots, views)
            with Progress("partitions", len(found)) as progress:
                return [progress.passed(await asyncio.to_thread(work, keeper)) for keeper in found]
        finally:
            await using.close()

    return asyncio.run(run())
