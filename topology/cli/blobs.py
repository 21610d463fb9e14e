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
    """Every frame and every model version on the log must have its bytes in the blob store, unless an order erased it.

    Ends with 1 when one is missing or changed, or can be read although it was erased.
    """
    from topology import wiring
    from topology.blob_check import check_blobs
    from topology.cli.progress import Progress
    from topology.configuration import load

    settings = load().settings
    log = wiring.event_log(settings)
    try:
        with Progress("blobs") as progress:
            found = check_blobs(log, wiring.blob_store(settings), wiring.schemas(settings), read=digests, progress=progress.step)
    finally:
        log.close()
    if format is Format.JSON:
        typer.echo(
            as_json(
                {
                    "checked": found.checked,
                    "missing": list(found.missing),
                    "changed": list(found.changed),
                    "erased": found.erased,
                    "not_erased": list(found.not_erased),
                    "unreferenced": found.unreferenced,
                }
            )
        )
    else:
        how = "read and verified" if digests else "looked up"
        typer.echo(f"{found.checked} blobs {how}: {len(found.missing)} missing, {len(found.changed)} changed")
        for order_id, count in found.erased.items():
            typer.echo(f"{count} erased by order {order_id}")
        typer.echo(f"{found.unreferenced} more in the bucket that nothing on the log names")
        for sha256 in (*found.missing, *found.changed)[:20]:
            typer.echo(f"{sha256}", err=True)
        for sha256 in found.not_erased[:20]:
            typer.echo(f"{sha256} was erased by an order, and can be read", err=True)
    if found.missing or found.changed or found.not_erased:
        raise typer.Exit(1)
