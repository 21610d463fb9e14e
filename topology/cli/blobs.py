"""`hindsight blobs check`: hold the blob store against the log."""

from typing import Annotated

import typer

from topology.cli.tables import Format, as_json


def register(app: typer.Typer) -> None:
    blobs = typer.Typer(help="Image bytes in the blob store.", no_args_is_help=True)
    blobs.command(epilog="Example: hindsight blobs check --digests")(check)
    app.add_typer(blobs, name="blobs")


def check(
    digests: Annotated[bool, typer.Option(help="Read every blob and verify its digest, not only that it is there.")] = False,
    format: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Every frame on the log must have its bytes in the blob store. Ends with 1 when one is missing or changed."""
    from topology import wiring
    from topology.blob_check import check_blobs
    from topology.configuration import load

    settings = load().settings
    log = wiring.event_log(settings)
    try:
        found = check_blobs(log, wiring.blob_store(settings), wiring.schemas(settings), read=digests)
    finally:
        log.close()
    if format is Format.JSON:
        typer.echo(
            as_json(
                {
                    "checked": found.checked,
                    "missing": list(found.missing),
                    "changed": list(found.changed),
                    "unreferenced": found.unreferenced,
                }
            )
        )
    else:
        how = "read and verified" if digests else "looked up"
        typer.echo(f"{found.checked} blobs {how}: {len(found.missing)} missing, {len(found.changed)} changed")
        typer.echo(f"{found.unreferenced} more in the bucket that no frame and no snapshot names")
        for sha256 in (*found.missing, *found.changed)[:20]:
            typer.echo(f"{sha256}", err=True)
    if found.missing or found.changed:
        raise typer.Exit(1)
