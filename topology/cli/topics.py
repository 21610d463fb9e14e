"""`hindsight topics`: the catalogue's topics, and where the broker is not what it says."""

from dataclasses import asdict
from typing import Annotated

import typer

from topology.cli.tables import Format

_DAY_MS = 24 * 3600 * 1000


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hindsight topics --format json")(topics)


def topics(
    format: Annotated[Format, typer.Option("--format", help="table: aligned columns; json: one document.")] = Format.TABLE,
    alter: Annotated[bool, typer.Option("--alter", help="First set the broker's topics right, except partitions.")] = False,
) -> None:
    """Print the catalogue against the broker; exit code 1 when they differ."""
    from schemas.catalogue import TOPICS
    from topology import wiring
    from topology.cli.tables import as_json, table
    from topology.configuration import load

    settings = load().settings
    broker, names = wiring.topics(settings), wiring.namespace(settings)
    if alter:
        for done in broker.alter():
            typer.echo(f"{done.topic}: {done.what} was {done.found}, is {done.wanted}", err=True)
    differences = broker.differences()
    if format is Format.JSON:
        told = {names.topic(t.name): broker.wanted(t) for t in TOPICS.values()}
        typer.echo(as_json({"topics": told, "differences": [asdict(d) for d in differences]}))
        raise typer.Exit(1 if differences else 0)
    rows = []
    for topic in TOPICS.values():
        name = names.topic(topic.name)
        ours = [d for d in differences if d.topic == name]
        said = "; ".join(f"{d.what} is {d.found}, and should be {d.wanted}" for d in ours) or "as catalogued"
        kept = "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms // _DAY_MS} d"
        events = ", ".join(event.__name__ for event in topic.events) or "records as they came"
        rows.append((name, topic.key, broker.wanted(topic)["partitions"], kept, said, events))
    typer.echo(table(("topic", "key", "partitions", "kept", "broker", "events"), rows))
    if any(d.what not in ("topic", "partitions") for d in differences):
        typer.echo("do: hindsight topics --alter sets them; a shorter retention deletes records", err=True)
    if any(d.what == "partitions" for d in differences):
        typer.echo("do: set kafka.partitions to what the broker has; changing it is a migration", err=True)
    if any(d.what == "topic" for d in differences):
        typer.echo("do: start a worker or a gateway; each makes what is missing", err=True)
    raise typer.Exit(1 if differences else 0)
