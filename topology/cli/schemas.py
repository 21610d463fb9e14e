"""`hindsight schemas check`: every version of every event against every other, both ways."""

from dataclasses import asdict
from typing import Annotated

import typer

from topology.cli.tables import Format


def register(app: typer.Typer) -> None:
    schemas = typer.Typer(help="The schemas of events.", no_args_is_help=True)
    schemas.command(epilog="Example: hindsight schemas check --registry")(check)
    app.add_typer(schemas, name="schemas")


def check(
    registry: Annotated[bool, typer.Option("--registry", help="Also against what the Schema Registry holds.")] = False,
    format: Annotated[Format, typer.Option("--format", help="table: a sentence each; json: one document.")] = Format.TABLE,
) -> None:
    """Check that every version can read every other (FULL_TRANSITIVE); exit code 1 and the field's name if one cannot."""
    from schemas.catalogue import TOPIC_OF
    from schemas.compatibility import Incompatibility, full_transitive, versions_in_package
    from topology.cli.tables import as_json

    asked = None
    if registry:
        from topology import wiring
        from topology.configuration import load

        asked = wiring.schemas(load().settings)
    found: list[Incompatibility] = []
    count = 0
    for event in TOPIC_OF:
        texts = versions_in_package(event.__name__) | (asked.registered_versions(event) if asked is not None else {})
        count += len(texts)
        found += full_transitive(event.__name__, texts)
    if format is Format.JSON:
        typer.echo(as_json({"events": len(TOPIC_OF), "versions": count, "incompatible": [asdict(i) for i in found]}))
    else:
        for incompatibility in found:
            typer.echo(str(incompatibility))
        if not found:
            typer.echo(f"{len(TOPIC_OF)} events, {count} versions: every version reads every other")
    raise typer.Exit(1 if found else 0)
