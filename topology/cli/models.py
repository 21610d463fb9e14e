"""`hindsight models`: model versions by their content: register, list, show."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from topology.cli.options import BundleOption, FormatOption
from topology.cli.tables import Format, as_json, bytes_in_words, table


def register(app: typer.Typer) -> None:
    models = typer.Typer(help="Model versions: their files, kept by digest.", no_args_is_help=True)
    models.command("register", epilog="Example: hindsight models register people --name people --metrics m.json")(register_model)
    models.command("list", epilog="Example: hindsight models list --format json")(list_models)
    models.command(epilog="Example: hindsight models show detection:3")(show)
    app.add_typer(models, name="models")


def register_model(
    folder: Annotated[Path, typer.Argument(help="A model's folder, with config.pbtxt and numbered versions; or one version's.")],
    name: Annotated[str, typer.Option(help="The model's name in the inference server.")],
    version: Annotated[int | None, typer.Option(min=1, help="Only this version; all that lie there when not given.")] = None,
    metrics: Annotated[Path | None, typer.Option(help="JSON file of numbers that were measured of it.")] = None,
    lineage: Annotated[Path | None, typer.Option(help="JSON file of where it comes from: dataset, commit, parent.")] = None,
    no_trial: Annotated[bool, typer.Option("--no-trial", help="Don't load it in a Triton first; the record says so.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait for the outcome.")] = 30.0,
) -> None:
    """Check a model, load it on trial, store its files by their content, and announce it.

    With the same files again nothing new is announced, and what was damaged in the store is mended. A version never
    changes: with other files or another configuration it is refused, and the command ends with 1.
    """
    from topology import model_store, offered
    from topology.configuration import load

    versions = offered.offered(folder, model=name, version=version)
    measured = offered.read_metrics(metrics) if metrics is not None else {}
    comes_from = offered.read_lineage(lineage) if lineage is not None else {}
    told = tuple(replace(one, metrics=measured, lineage=comes_from) for one in versions)
    settings = load().settings
    model_store.hold_new(settings, told)
    tried = offered.tried(told, say=typer.echo, why_not="--no-trial was given" if no_trial else "")
    model_store.register(settings, tried, reason=reason, say=typer.echo, timeout_s=wait, again=True)


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
