"""Options that commands share, so that they are called and explained alike."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import ConfigurationError, ContractError
from topology.cli.tables import Format

if TYPE_CHECKING:
    from processors.views.catalogue import View
    from streams.past import Past

BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Answer from this incident bundle, with no server at all.", exists=True, dir_okay=False),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print.")]
ViewsArgument = Annotated[list[str] | None, typer.Argument(help="Views; all when none is named.")]
ZoneOption = Annotated[
    str | None, typer.Option("--tz", help="Time zone of a moment without one; from the settings when not given.")
]


def hold_writable(file: Path | None, option: str) -> None:
    """Better now than after an hour's work.

    Raises:
        ConfigurationError: the file that was asked for cannot be written.
    """
    if file is None:
        return
    if file.is_dir() or not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise ConfigurationError(
            f"{file} cannot be written", setting=option, do="name a file in a folder that is there and yours"
        )


def say_what_is_not_held(past: "Past", from_us: int, to_us: int) -> None:
    """A window that reaches out of a bundle is answered as far as the bundle goes, and that is said.

    Raises:
        ConfigurationError: the window ends before it begins.
    """
    from schemas.envelope import rfc3339

    if to_us < from_us:
        raise ConfigurationError("the window ends before it begins", setting="--to", do="name a later moment with --to")
    scope = past.scope
    if scope is not None and not scope.from_us <= from_us <= to_us <= scope.to_us:
        typer.echo(
            f"{past.source} holds {rfc3339(scope.from_us)} to {rfc3339(scope.to_us)}, and the window is cut to that", err=True
        )


def chosen_views(names: list[str] | None) -> "list[View[Any]]":
    """The named views; all when none is named.

    Raises:
        ContractError: there is no view of a name.
    """
    from processors.views.catalogue import VIEWS

    unknown = sorted(set(names or ()) - VIEWS.keys())
    if unknown:
        raise ContractError(f"there is no view {', '.join(unknown)}", do=f"choose from {', '.join(VIEWS)}")
    return [VIEWS[name] for name in names or VIEWS]
