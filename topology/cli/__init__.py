"""The command line `hindsight`: puts the commands together and decides how errors end.

Each module of this package adds the commands of one noun by a function `register(app)`; adding a module is one line in
MODULES. Modules import what is heavy inside their commands, so that `hindsight --help` stays quick.

Exit codes: 0 done, or the answer is yes; 1 the answer is no, or a check failed; 2 the command or a setting is wrong;
3 something is away, or unexpected. Errors are one line on stderr with what to do about it; HINDSIGHT_DEBUG=1 adds the
trace.
"""

import importlib
import os
import sys
import traceback

import typer

from schemas.errors import ConfigurationError, ConsistencyError, ContractError, HindsightError, StepFailedError

# The order is the order in `hindsight --help`.
MODULES = (
    "topology.cli.stack",
    "topology.cli.demo",
    "topology.cli.worker",
    "topology.cli.doors",
    "topology.cli.publish",
    "topology.cli.schemas",
    "topology.cli.topics",
    "topology.cli.results",
    "topology.cli.blobs",
    "topology.cli.erase",
    "topology.cli.at",
    "topology.cli.reinfer",
    "topology.cli.whatif",
    "topology.cli.explain",
    "topology.cli.why_not",
    "topology.cli.bisect",
    "topology.cli.bundle",
    "topology.cli.export",
    "topology.cli.views",
    "topology.cli.snapshots",
    "topology.cli.dlq",
    "topology.cli.releases",
    "topology.cli.models",
)

EXIT_NO, EXIT_USAGE, EXIT_AWAY = 1, 2, 3


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="hindsight",
        help="A flight recorder for vision inference.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for module in MODULES:
        importlib.import_module(module).register(app)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit. Never returns."""
    try:
        build_app()(arguments, prog_name="hindsight")
    except HindsightError as exc:
        _say(str(exc), exc.do)
        sys.exit(exit_code(exc))
    except Exception as exc:
        _say(f"unexpected: {type(exc).__name__}: {exc}", "set HINDSIGHT_DEBUG=1 to see where, and report it")
        sys.exit(EXIT_AWAY)


def exit_code(error: HindsightError) -> int:
    """How a command ends that was stopped by this error."""
    match error:
        case ConfigurationError():
            return EXIT_USAGE
        case ContractError() | ConsistencyError() | StepFailedError():
            return EXIT_NO
        case _:
            return EXIT_AWAY


def _say(message: str, do: str) -> None:
    if os.environ.get("HINDSIGHT_DEBUG"):
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    if do:
        print(f"do: {do}", file=sys.stderr)
