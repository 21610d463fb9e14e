"""`hindsight releases`: register, promote, list, history."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.tables import Format, as_json, table

if TYPE_CHECKING:
    from topology.settings import Settings

FormatOption = Annotated[Format, typer.Option("--format", help="How to print.")]
Reason = Annotated[str, typer.Option(help="Why, for the record.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the outcome.")]


def register(app: typer.Typer) -> None:
    releases = typer.Typer(help="Releases: which models read, and since when.", no_args_is_help=True)
    releases.command("register", epilog="Example: hindsight releases register gate_reader_r2 --reason 'v6 models'")(
        register_release
    )
    releases.command(epilog="Example: hindsight releases promote gate_reader_r2 --reason 'reads worn codes better'")(promote)
    releases.command("list", epilog="Example: hindsight releases list --format json")(list_releases)
    releases.command(epilog="Example: hindsight releases history")(history)
    releases.command(epilog="Example: hindsight releases threshold text_confidence 0.6 --reason 'fewer ghosts'")(threshold)
    app.add_typer(releases, name="releases")


def register_release(name: str, reason: Reason = "", wait: Wait = 30.0) -> None:
    """Register a release of the built model repository: each step pinned to a version and a digest.

    The files of its models are stored and registered first, so that it can be read with again when they are gone here.
    """
    from schemas.events import RegisterRelease, ReleaseRegistered
    from schemas.types import ReleaseStep
    from streams.records import system_clock
    from topology import commands, model_store
    from topology.models import release_parameters, release_steps, release_versions

    configuration = _configuration()
    settings = configuration.settings
    model_store.register(
        settings, release_versions(configuration.home, name), reason=f"release {name}", say=typer.echo, timeout_s=wait
    )
    command = RegisterRelease(
        command_id=commands.new_command_id(),
        pipeline=settings.pipeline.name,
        release=name,
        steps=tuple(ReleaseStep(step=s, model=m, version=v, digest=d) for s, m, v, d in release_steps(configuration.home, name)),
        parameters=release_parameters(),
        issued_by=commands.who(),
        reason=reason,
        issued_at_us=system_clock(),
    )
    commands.send(settings, command, until=lambda e: isinstance(e, ReleaseRegistered) and e.release == name, timeout_s=wait)
    typer.echo(f"{name} is registered; the loader loads it now")


def promote(name: str, reason: Reason = "", wait: Wait = 120.0) -> None:
    """Put a release in force. Waits until the inference server has it; frames are read by it from then on."""
    from schemas.errors import ContractError
    from schemas.events import PromoteRelease, ReleaseLoadFailed, ReleasePromoted
    from streams.records import system_clock
    from topology import commands

    settings = _settings()
    command = PromoteRelease(
        command_id=commands.new_command_id(),
        pipeline=settings.pipeline.name,
        release=name,
        issued_by=commands.who(),
        reason=reason,
        issued_at_us=system_clock(),
    )
    event = commands.send(
        settings,
        command,
        until=lambda e: isinstance(e, (ReleasePromoted, ReleaseLoadFailed)) and e.release == name,
        timeout_s=wait,
    )
    if isinstance(event, ReleaseLoadFailed):
        raise ContractError(
            f"{name} could not be loaded on {event.endpoint}: {event.error_message}",
            do="mend the model and register it as a new release",
        )
    typer.echo(f"{name} is in force; before it: {event.previous_release or 'none'}")


def threshold(name: str, value: float, reason: Reason = "", wait: Wait = 30.0) -> None:
    """Change a parameter of the pipeline; it holds for frames read from then on."""
    from processors.release.core import wrong_values
    from schemas.errors import ContractError
    from schemas.events import ChangeThreshold, ThresholdChanged
    from streams.records import system_clock
    from topology import commands

    if wrong := wrong_values({name: value}):
        raise ContractError(wrong, do="give another value; `hindsight releases list --format json` shows the present ones")
    settings = _settings()
    command = ChangeThreshold(
        command_id=commands.new_command_id(),
        pipeline=settings.pipeline.name,
        name=name,
        value=value,
        issued_by=commands.who(),
        reason=reason,
        issued_at_us=system_clock(),
    )
    event = commands.send(
        settings, command, until=lambda e: isinstance(e, ThresholdChanged) and e.name == name and e.value == value, timeout_s=wait
    )
    typer.echo(
        f"{name} is {event.value:g}; before it: {'unset' if event.previous_value is None else format(event.previous_value, 'g')}"
    )


def list_releases(format: FormatOption = Format.TABLE) -> None:
    """The releases of the pipeline and which one is in force, from the log."""
    from schemas.plain import to_plain
    from topology import commands

    settings = _settings()
    state = commands.releases_now(settings)
    if format is Format.JSON:
        typer.echo(as_json(to_plain(state)))
        return
    rows = [
        (
            name,
            "in force"
            if name == state.in_force
            else "loaded"
            if entry.loaded_on
            else "load failed"
            if entry.load_error
            else "registered",
            " ".join(f"{s.step}:{s.version}" for s in entry.steps),
            entry.registered_by,
        )
        for name, entry in sorted(state.releases.items())
    ]
    typer.echo(
        table(("release", "state", "steps", "registered by"), rows) if rows else "no releases; hindsight releases register NAME"
    )


def history(format: FormatOption = Format.TABLE) -> None:
    """Every event of vision.releases, oldest first: who did what, when and why."""
    from schemas.catalogue import RELEASES
    from schemas.codec import decode
    from schemas.envelope import rfc3339
    from schemas.errors import ContractError
    from schemas.plain import to_plain
    from topology import wiring

    settings = _settings()
    log, schemas = wiring.event_log(settings), wiring.schemas(settings)
    bounds = log.bounds(RELEASES, 0)
    rows: list[dict[str, Any]] = []
    for record in log.read(RELEASES, 0, bounds.earliest, bounds.end):
        row: dict[str, Any] = {"appended_at": rfc3339(record.appended_at_ms * 1000), "offset": record.offset}
        try:
            event = decode(record.value, RELEASES, schemas)
            rows.append({**row, "event": type(event).__name__, **to_plain(event)})
        except ContractError as error:
            rows.append({**row, "event": "unreadable", "detail": str(error)})
    log.close()
    if format is Format.JSON:
        typer.echo(as_json(rows))
        return
    cells = [(r["appended_at"], r["event"], r.get("release") or r.get("name", ""), r.get("issued_by", ""), _why(r)) for r in rows]
    typer.echo(table(("appended at", "event", "what", "by", "why"), cells))


def _why(row: dict[str, Any]) -> str:
    return str(row.get("detail") or row.get("error_message") or row.get("reason") or row.get("endpoint") or "")


def _configuration() -> Any:
    from topology.configuration import load

    return load()


def _settings() -> "Settings":
    settings: Settings = _configuration().settings
    return settings
