"""`hindsight releases`: register, list, threshold; `rollouts` changes who reads, `releases_past` looks back."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli import releases_past, rollouts
from topology.cli.options import FormatOption
from topology.cli.releases_past import standing
from topology.cli.rollouts import Reason, Wait
from topology.cli.tables import Format, as_json, table

if TYPE_CHECKING:
    from topology.settings import Settings


def register(app: typer.Typer) -> None:
    releases = typer.Typer(help="Releases: which models read, and since when.", no_args_is_help=True)
    releases.command("register", epilog="Example: hindsight releases register gate_reader_r2 --reason 'v6 models'")(
        register_release
    )
    releases.command("list", epilog="Example: hindsight releases list --format json")(list_releases)
    releases_past.register(releases)
    rollouts.register(releases)
    releases.command(epilog="Example: hindsight releases threshold text_confidence 0.6 --reason 'fewer ghosts'")(threshold)
    app.add_typer(releases, name="releases")


def register_release(
    name: str,
    step: Annotated[
        list[str] | None,
        typer.Option(help="A registered model that does a step: people:1, or detection=people:1; may be repeated."),
    ] = None,
    parameter: Annotated[list[str] | None, typer.Option(help="A parameter, such as threshold=0.5; may be repeated.")] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option(help="What a parameter may be, such as speed=0..80; without, it is greater than 0 and less than 1."),
    ] = None,
    reason: Reason = "",
    wait: Wait = 30.0,
) -> None:
    """Register a release: each step pinned to a version and a digest.

    With --step, of any registered models, whose tensors join the steps by their names. Without, one of the reference
    pipeline's built model repository, whose models are registered first.
    """
    from topology import registering
    from topology.configuration import load

    configuration = load()
    if step:
        release = registering.release_of(configuration.settings, name, step, parameter or (), limits or ())
    elif parameter or limits:
        raise typer.BadParameter("goes with --step", param_hint="--parameter and --limits")
    else:
        release = registering.reference_release(configuration, name, say=typer.echo, timeout_s=wait)
    registering.register_release(configuration.settings, release, reason=reason, timeout_s=wait)
    typer.echo(f"{name} is registered; the loader loads it now")


def threshold(name: str, value: float, reason: Reason = "", wait: Wait = 30.0) -> None:
    """Change a parameter of the pipeline; it holds for frames read from then on."""
    from math import isfinite

    from schemas.errors import ContractError
    from schemas.events import ChangeThreshold, ThresholdChanged
    from streams.records import system_clock
    from topology import commands

    if not isfinite(value):
        raise ContractError(f"{name} is {value:g}, which no parameter can be", do="give a number")
    settings = _settings()
    command = ChangeThreshold(
        command_id=commands.new_command_id(),
        pipeline=settings.pipeline.name,
        name=name,
        value=value,
        issued_by=commands.who(),
        reason=reason,
        issued_at_us=system_clock(),
        expected_revision=commands.releases_now(settings).revision,
    )
    event = commands.send(
        settings, command, until=lambda e: isinstance(e, ThresholdChanged) and e.name == name and e.value == value, timeout_s=wait
    )
    typer.echo(
        f"{name} is {event.value:g}; before it: {'unset' if event.previous_value is None else format(event.previous_value, 'g')}"
    )


def list_releases(format: FormatOption = Format.TABLE) -> None:
    """The releases of the pipeline, which one is in force and which one on trial, from the log."""
    from schemas.plain import to_plain
    from topology import commands

    state = commands.releases_now(_settings())
    if format is Format.JSON:
        typer.echo(as_json(to_plain(state)))
        return
    rows = [
        (name, standing(state, name), " ".join(f"{s.step}:{s.version}" for s in entry.steps), entry.registered_by)
        for name, entry in sorted(state.releases.items())
    ]
    typer.echo(
        table(("release", "state", "steps", "registered by"), rows) if rows else "no releases; hindsight releases register NAME"
    )


def _configuration() -> Any:
    from topology.configuration import load

    return load()


def _settings() -> "Settings":
    settings: Settings = _configuration().settings
    return settings
