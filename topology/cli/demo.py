"""`hindsight demo`: about 100 frames from three devices, two releases, and a look back at the moment between them."""

import asyncio
import os
import shutil
import sys

import typer


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hindsight up && hindsight demo")(demo)


def demo() -> None:
    """Run the demo on the stack that is up, and print what it shows."""
    from topology.configuration import load
    from topology.demo.media import fetch_media
    from topology.demo.report import summary
    from topology.demo.run import run_demo

    configuration = load()
    media = fetch_media(configuration.home / "media", say=lambda line: typer.echo(line, err=True))
    gathered = asyncio.run(run_demo(configuration, media, say=lambda line: typer.echo(line, err=True), progress=_Bar()))
    typer.echo("\n".join(["", *summary(gathered, command=_this_command())]))


def _this_command() -> str:
    """How this command is called from where the person is: by its name when that is on the PATH."""
    return "hindsight" if shutil.which("hindsight") else os.path.relpath(sys.argv[0])


class _Bar:
    """One line that counts, rewritten on a terminal and printed at every quarter elsewhere."""

    def __init__(self) -> None:
        self._shown = ("", -1)

    def __call__(self, what: str, done: int, total: int) -> None:
        step = done if sys.stderr.isatty() else done * 4 // max(1, total)
        if (what, step) == self._shown:
            return
        self._shown = (what, step)
        line = f"{what}: {done} of {total} results"
        if sys.stderr.isatty():
            print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
