"""Options that commands share, so that they are called and explained alike."""

from pathlib import Path
from typing import Annotated

import typer

from topology.cli.tables import Format

BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Answer from this incident bundle, with no server at all.", exists=True, dir_okay=False),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print.")]
ZoneOption = Annotated[
    str | None, typer.Option("--tz", help="Time zone of a moment without one; from the settings when not given.")
]
