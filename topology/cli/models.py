"""`hindsight models`: model versions by their content: register, list, show, diff, history."""

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
    models.command(epilog="Example: hindsight models diff detection:3 detection:4")(diff)
    models.command(epilog="Example: hindsight models history detection")(history)
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
    if (refused := model_store.registered_otherwise(settings, told)) is not None:
        told = (refused,)  # the refusal belongs on the log, and nothing else happens
    elif not model_store.all_known(settings, told):
        told = offered.tried(told, say=typer.echo, why_not="--no-trial was given" if no_trial else "")
    model_store.register(settings, told, reason=reason, say=typer.echo, timeout_s=wait, again=True)


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
    from schemas.plain import to_plain
    from topology.configuration import load
    from topology.model_history import version_of
    from topology.past import open_past, pipeline_of

    settings = load().settings
    with open_past(settings, bundle) as past:
        event = version_of(past, pipeline_of(settings, past), model)
        files = (*event.files, *((event.configuration,) if event.configuration is not None else ()))
        there = {file.path: past.blobs.exists(file.blob) for file in files}
    if format is Format.JSON:
        typer.echo(as_json({**to_plain(event), "there": there}))
    else:
        typer.echo(f"{model}  digest {event.digest}")
        typer.echo(f"registered {rfc3339(event.registered_at_us)} by {event.issued_by}: {event.reason or 'no reason given'}")
        rows = [(f.path, f.blob.size_bytes, f.blob.sha256, "yes" if there[f.path] else "GONE") for f in files]
        typer.echo(table(("file", "bytes", "sha256", "there"), rows))
        evidence = [*((k, f"{v:g}") for k, v in sorted(event.metrics.items())), *sorted(event.lineage.items())]
        if evidence:
            typer.echo(table(("evidence", "value"), evidence))
    if not all(there.values()):
        raise typer.Exit(1)


def diff(first: str, second: str, bundle: BundleOption = None, format: FormatOption = Format.TABLE) -> None:
    """What differs between two model versions: files by digest, configuration, measures, lineage. Ends with 1 when something
    does."""
    from schemas.plain import to_plain
    from topology.configuration import load
    from topology.model_history import configuration_diff, differences, version_of
    from topology.past import open_past, pipeline_of

    settings = load().settings
    with open_past(settings, bundle) as past:
        one, other = (version_of(past, pipeline_of(settings, past), name) for name in (first, second))
        rows, lines = differences(one, other), configuration_diff(past, one, other)
    if format is Format.JSON:
        typer.echo(as_json({"differences": [to_plain(row) for row in rows], "configuration": list(lines)}))
    elif rows or lines:
        short = [(r.what, r.name, *(v[:16] if r.what == "file" else v for v in (r.first, r.second))) for r in rows]
        typer.echo("\n".join([*([table(("what", "name", first, second), short)] if short else []), *lines]))
    else:
        typer.echo(f"{first} and {second} are the same")
    if rows or lines:
        raise typer.Exit(1)


def history(
    model: Annotated[str | None, typer.Argument(help="Only this model, by its name without a version.")] = None,
    bundle: BundleOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Who registered what, when, why and on what evidence, refusals too; oldest first."""
    from schemas.envelope import rfc3339
    from schemas.events import ModelRegistered
    from schemas.plain import to_plain
    from topology.configuration import load
    from topology.model_history import history as told
    from topology.past import open_past, pipeline_of

    settings = load().settings
    with open_past(settings, bundle) as past:
        found = list(told(past, pipeline_of(settings, past), model))
    if format is Format.JSON:
        typer.echo(
            as_json(
                [
                    {"appended_at": rfc3339(one.appended_at_us), "event": type(one.event).__name__, **to_plain(one.event)}
                    for one in found
                ]
            )
        )
        return
    rows = []
    for one in found:
        event = one.event
        if isinstance(event, ModelRegistered):
            evidence = [
                *(f"{k}={v:g}" for k, v in sorted(event.metrics.items())),
                *(f"{k}: {v}" for k, v in sorted(event.lineage.items())),
            ]
            cells = (f"{event.model}:{event.version}", "registered", event.reason, "; ".join(evidence))
        else:
            cells = ("", f"refused: {event.refusal}", "", event.detail)
        rows.append((rfc3339(one.appended_at_us), *cells[:2], event.issued_by, *cells[2:]))
    typer.echo(table(("appended at", "model", "what", "by", "why", "evidence"), rows) if rows else "nothing was registered")
