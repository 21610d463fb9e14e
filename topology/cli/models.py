"""`hindsight models`: model versions by their content: register, list, show."""

from pathlib import Path
from typing import Annotated

import typer

from topology.cli.options import BundleOption, FormatOption
from topology.cli.tables import Format, as_json, bytes_in_words, table


def register(app: typer.Typer) -> None:
    models = typer.Typer(help="Model versions: their files, kept by digest.", no_args_is_help=True)
    models.command("register", epilog="Example: hindsight models register repository/detection/3 --name detection --version 3")(
        register_model
    )
    models.command("list", epilog="Example: hindsight models list --format json")(list_models)
    models.command(epilog="Example: hindsight models show detection:3")(show)
    app.add_typer(models, name="models")


def register_model(
    folder: Annotated[Path, typer.Argument(help="Folder of one model version, with everything that decides its answer.")],
    name: Annotated[str, typer.Option(help="The model's name in the inference server.")],
    version: Annotated[int, typer.Option(min=1, help="Its version.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait for the outcome.")] = 30.0,
) -> None:
    """Store a model version's files by their content, and announce them.

    With the same files again nothing new is announced, and what was damaged in the store is mended. A version never
    changes: with other files it is refused, and the command ends with 1.
    """
    from topology import model_store
    from topology.configuration import load

    versions = (model_store.ModelVersion(model=name, version=version, folder=folder),)
    model_store.register(load().settings, versions, reason=reason, say=typer.echo, timeout_s=wait, again=True)


def list_models(bundle: BundleOption = None, format: FormatOption = Format.TABLE) -> None:
    """Model versions whose files are kept, oldest first."""
    from schemas.envelope import rfc3339
    from schemas.plain import to_plain
    from topology.configuration import load
    from topology.model_store import registered
    from topology.past import open_past, pipeline_of

    settings = load().settings
    with open_past(settings, bundle) as past:
        found = list(registered(past, pipeline_of(settings, past)))
    if format is Format.JSON:
        typer.echo(as_json([to_plain(event) for event in found]))
        return
    rows = [
        (
            f"{e.model}:{e.version}",
            e.digest[:16],
            len(e.files),
            bytes_in_words(sum(f.blob.size_bytes for f in e.files)),
            e.issued_by,
            rfc3339(e.registered_at_us),
        )
        for e in found
    ]
    header = ("model", "digest", "files", "size", "by", "registered at")
    typer.echo(table(header, rows) if rows else "no models; hindsight releases register NAME, or hindsight models register DIR")


def show(
    model: Annotated[str, typer.Argument(help="Name and version, such as detection:3.")],
    bundle: BundleOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """One model version: who registered it, and each file with its digest and whether it is still there.

    Ends with 1 when a file is gone.
    """
    from schemas.envelope import rfc3339
    from schemas.errors import ContractError
    from schemas.plain import to_plain
    from topology.configuration import load
    from topology.model_store import registered
    from topology.past import open_past, pipeline_of

    settings = load().settings
    with open_past(settings, bundle) as past:
        found = [e for e in registered(past, pipeline_of(settings, past)) if f"{e.model}:{e.version}" == model]
        if not found:
            raise ContractError(f"no model {model} is registered", do="`hindsight models list` shows those that are")
        event = found[-1]
        there = {file.path: past.blobs.exists(file.blob) for file in event.files}
    if format is Format.JSON:
        typer.echo(as_json({**to_plain(event), "there": there}))
    else:
        typer.echo(f"{model}  digest {event.digest}")
        typer.echo(f"registered {rfc3339(event.registered_at_us)} by {event.issued_by}: {event.reason or 'no reason given'}")
        rows = [(f.path, f.blob.size_bytes, f.blob.sha256, "yes" if there[f.path] else "GONE") for f in event.files]
        typer.echo(table(("file", "bytes", "sha256", "there"), rows))
    if not all(there.values()):
        raise typer.Exit(1)
