"""`hindsight bundle`: an incident in one file, to keep, to send, and to ask with no server at all."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.options import FormatOption, ZoneOption
from topology.cli.tables import Format, as_json, bytes_in_words, table

if TYPE_CHECKING:
    from streams.bundle.manifest import Manifest

_EXIT_NO = 1
_MOST_FILLED = 50_000_000
_File = Annotated[Path, typer.Argument(help="The bundle.", exists=True, dir_okay=False)]
Told = Callable[[str, int, int], None]


def register(app: typer.Typer) -> None:
    bundle = typer.Typer(help="Incident bundles: a window of everything, in one file.", no_args_is_help=True)
    bundle.command(
        epilog='Example: hindsight bundle create --from "last tue 03:40" --to "last tue 03:55" --device gate-1 -o incident.hsb'
    )(create)
    bundle.command(epilog="Example: hindsight bundle info incident.hsb")(info)
    bundle.command(epilog="Example: hindsight bundle verify incident.hsb --key recorder.key.pub")(verify)
    bundle.command("import", epilog="Example: HINDSIGHT_NAMESPACE=incident-1 hindsight bundle import incident.hsb")(load)
    bundle.command(epilog="Example: hindsight bundle keygen recorder.key")(keygen)
    app.add_typer(bundle, name="bundle")


def create(
    since: Annotated[str, typer.Option("--from", help="When the window begins, by the broker's clock.")],
    until: Annotated[str, typer.Option("--to", help="When it ends.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, such as incident.hsb.")],
    device: Annotated[list[str] | None, typer.Option(help="Only this device; may be given several times.")] = None,
    with_models: Annotated[bool, typer.Option("--with-models", help="Also the files of the models that releases pin.")] = False,
    sign: Annotated[Path | None, typer.Option(help="Sign with this private key (Ed25519, PEM).", exists=True)] = None,
    tz: ZoneOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Write what the log held of a window, and all that answers about it need, into one file.

    The raw records with their positions and append times, what led to them, snapshots to start from, the schemas that wrote
    them, and the images. A file that is there already is not touched.
    """
    from processors.bundling.creating import Order, create_bundle
    from processors.bundling.spans import Window
    from streams.bundle.signing import Signer
    from streams.records import system_clock
    from topology.commands import who
    from topology.configuration import load as load_settings
    from topology.moments import parse_moment, past_moment
    from topology.past import open_past

    settings, now_us = load_settings().settings, system_clock()
    zone = tz or settings.timezone
    window = Window(
        from_us=past_moment(since, zone=zone, now_us=now_us),
        to_us=min(parse_moment(until, zone=zone, now_us=now_us), now_us),
        devices=frozenset(device) if device else None,
        pipeline=settings.pipeline.name,
    )
    order = Order(
        window=window,
        with_models=with_models,
        signer=None if sign is None else Signer(sign),
        created_at_us=now_us,
        created_by=who(),
        program=_program(),
    )
    with open_past(settings, None) as past, _progress() as told:
        manifest = create_bundle(past, output, order, told)
    _show(output, manifest, zone, format)


def info(file: _File, tz: ZoneOption = None, format: FormatOption = Format.TABLE) -> None:
    """Show what a bundle holds, by its manifest; `verify` also reads the rest."""
    from streams.bundle.file import BundleFile
    from topology.configuration import load as load_settings

    with BundleFile(file) as opened:
        _show(file, opened.manifest, tz or load_settings().settings.timezone, format)


def verify(
    file: _File,
    key: Annotated[Path | None, typer.Option(help="The public key that must have signed it.", exists=True)] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Read every byte and say what is not as it was written. Ends with 1 when anything is not, or the key is another one."""
    from schemas.plain import to_plain
    from streams.bundle import verify_bundle
    from streams.bundle.signing import public_key

    wanted = None if key is None else public_key(key)
    with _progress() as told:
        found = verify_bundle(file, key=wanted, progress=lambda done, of: told("bytes", done, of))
    if format is Format.JSON:
        typer.echo(as_json({**to_plain(found), "whole": found.whole}))
    else:
        for damage in found.damages:
            typer.echo(f"{damage.entry}: {damage.what}")
        if found.damages_count > len(found.damages):
            typer.echo(f"and {found.damages_count - len(found.damages)} more")
        if found.damages_count:
            typer.echo(f"damaged: {found.damages_count} findings in {found.file_bytes} bytes")
        else:
            typer.echo(f"whole: {found.entries_count} entries, {found.file_bytes} bytes, every byte as it was written")
        typer.echo(_signed(found.signed_by, found.trusted))
    if not found.whole:
        raise typer.Exit(_EXIT_NO)


def load(
    file: _File,
    fill_at_most: Annotated[int, typer.Option(help="Empty records to write at most, so that offsets come out.")] = _MOST_FILLED,
    format: FormatOption = Format.TABLE,
) -> None:
    """Load a bundle into an empty namespace, at its own offsets and with its own append times.

    No worker may run there: it would take the records for new ones.
    """
    from schemas.plain import to_plain
    from topology.bundle_import import import_bundle
    from topology.configuration import load as load_settings

    settings = load_settings().settings
    with _progress() as told:
        found = import_bundle(file, settings, most_filled=fill_at_most, progress=told)
    if format is Format.JSON:
        typer.echo(as_json(to_plain(found)))
        return
    where = f"namespace {settings.namespace}" if settings.namespace else "the namespace without a name"
    typer.echo(f"{found.records_count} records, {found.blobs_count} blobs and {found.schemas_count} schemas are in {where}")
    if found.filled_count:
        typer.echo(f"{found.filled_count} empty records were written so that the others have their offsets")
    for old, new in found.renumbered:
        typer.echo(f"schema {old} is {new} in this registry, and values say so")


def keygen(
    file: Annotated[Path, typer.Argument(help="Where the private key goes; the public one goes to FILE.pub.")],
) -> None:
    """Make a pair of keys for signing bundles. Give the public one to whoever is to trust them."""
    from streams.bundle.signing import make_keys

    pair = make_keys(file)
    typer.echo(f"private key {pair.private}, to be kept secret")
    typer.echo(f"public key  {pair.public}, fingerprint {pair.fingerprint}")


def _show(file: Path, manifest: "Manifest", zone: str, format: Format) -> None:
    if format is Format.JSON:
        from schemas.plain import to_plain

        plain: dict[str, Any] = to_plain(manifest)
        typer.echo(as_json({"file": str(file), "file_bytes": file.stat().st_size, **plain}))
        return
    typer.echo("\n".join(_lines(file, manifest, zone)))


def _lines(file: Path, manifest: "Manifest", zone: str) -> Iterator[str]:
    from processors.lookback.words import shown
    from topology.moments import show_moment

    about, blobs = manifest.about, manifest.blobs
    made = f"made {show_moment(about.created_at_us, zone)} by {shown(about.created_by)}"
    yield f"{file}, {bytes_in_words(file.stat().st_size)}, {made}"
    yield f"window     {show_moment(about.from_us, zone)} to {show_moment(about.to_us, zone)}"
    yield f"devices    {'all' if about.devices is None else shown(', '.join(about.devices))}"
    yield f"pipeline   {shown(about.pipeline)}"
    missing = f", {blobs.missing_count} missing" if blobs.missing_count else ""
    yield f"blobs      {blobs.count} ({bytes_in_words(blobs.content_bytes)}){missing}"
    yield f"schemas    {len(manifest.schemas)}"
    yield f"snapshots  {len(about.snapshots)}"
    for model in about.models:
        lacking = f", {model.missing_count} missing" if model.missing_count else ""
        yield f"model      {shown(model.model)}:{model.version} {shown(model.digest[:16])} ({model.files_count} files{lacking})"
    if about.too_long_count:
        yield f"left out   {about.too_long_count} records that are longer than a bundle holds"
    yield ""
    rows = []
    for partition in manifest.partitions:
        records_count = sum(s.records_count for s in partition.segments)
        left_out = sum(s.items_count for s in partition.segments) - records_count
        if partition.segments:
            rows.append((partition.topic, partition.partition, records_count, left_out, partition.earliest, partition.end))
    yield table(("topic", "partition", "records", "left out", "complete from", "to"), rows)


def _signed(signed_by: str | None, trusted: bool | None) -> str:
    if signed_by is None:
        return "not signed" if trusted is None else "not signed, and a signature was asked for"
    return f"signed by {signed_by}" + {None: ", whoever that is: --key tells", True: ", the key that was asked for"}.get(
        trusted, ", which is not the key that was asked for"
    )


def _program() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"hindsight {version('hindsight-recorder')}"
    except PackageNotFoundError:
        return "hindsight"


@contextmanager
def _progress() -> Iterator[Told]:
    """Bars on a terminal; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda what, done, of: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done, total=of)

        yield told
