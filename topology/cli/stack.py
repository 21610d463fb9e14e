"""The commands about the local stack and the settings: up, down, status, logs, doctor, config show.

They only parse and print; `topology.stack.local`, `topology.configuration` and `topology.doctor` do the work.
"""

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import ConfigurationError
from topology.cli.tables import Format, as_json, bytes_in_words, seconds_in_words, table

if TYPE_CHECKING:
    from topology.stack.local import LocalStack
    from topology.stack.state import ProgramState

FormatOption = Annotated[Format, typer.Option("--format", help="How to print.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: hindsight up kafka redis --port kafka=9092")(up)
    app.command(epilog="Example: hindsight down")(down)
    app.command(epilog="Example: hindsight status --format json")(status)
    app.command(epilog="Example: hindsight logs kafka -f -n 50")(logs)
    app.command(epilog="Example: hindsight doctor")(doctor)
    config = typer.Typer(help="The settings in force.", no_args_is_help=True)
    config.command("show", epilog="Example: hindsight config show --format json")(config_show)
    app.add_typer(config, name="config")


def local_stack(
    servers: tuple[str, ...] | None = None, ports: dict[str, int] | None = None, *, quiet: bool = False
) -> "LocalStack":
    """The stack of the home in force, as the settings describe it."""
    from topology.configuration import load
    from topology.stack.local import LocalStack

    configuration = load()
    wanted = configuration.settings.stack
    return LocalStack(
        configuration.home,
        servers or wanted.servers,
        fixed_ports={**wanted.ports, **(ports or {})},
        say=(lambda line: None) if quiet else (lambda line: typer.echo(line, err=True)),
    )


def up(
    servers: Annotated[list[str] | None, typer.Argument(help="Only these servers; all when none is named.")] = None,
    port: Annotated[list[str] | None, typer.Option(help="LISTENER=PORT: this port, or fail.")] = None,
) -> None:
    """Install what is missing, start the local stack and wait until it is ready."""
    begin = time.monotonic()
    stack = local_stack(tuple(servers or ()) or None, _ports(port or []))
    if "triton" in stack.servers:
        from topology import models

        models.build(stack.layout.home, say=lambda line: typer.echo(line, err=True))
    if stack.up():
        typer.echo(f"up after {time.monotonic() - begin:.1f} s; hindsight status shows what runs")
    else:
        typer.echo("already up; nothing to do")


def down() -> None:
    """Stop the local stack. No process of it is left afterwards; what it kept stays under .hindsight/data."""
    begin = time.monotonic()
    if _stack_of_home().down():
        typer.echo(f"down after {time.monotonic() - begin:.1f} s")
    else:
        typer.echo("already down; nothing to do")


def status(format: FormatOption = Format.TABLE) -> None:
    """Show each program of the local stack. Ends with 1 when the stack is down or something in it is not ready."""
    state = _stack_of_home().state()
    rows = [_status_row(one) for one in state.programs] if state is not None else []
    if format is Format.JSON:
        typer.echo(as_json({"up": state is not None, "programs": rows}))
    elif state is None:
        typer.echo("the local stack is down; hindsight up starts it")
    else:
        header = ("name", "state", "pid", "ports", "uptime", "restarts", "memory", "detail")
        typer.echo(table(header, [_status_cells(row) for row in rows]))
    if state is None or any(row["state"] not in ("ready", "ended") for row in rows):
        raise typer.Exit(1)


def logs(
    server: Annotated[str | None, typer.Argument(help="A program of the stack, or supervisor; all when left out.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each.")] = 20,
) -> None:
    """Print the last lines of the programs' logs."""
    from topology.stack import logs as log_files

    paths = _log_paths(server)
    prefix_width = max(len(path.stem) for path in paths) if len(paths) > 1 else 0
    with contextlib.suppress(KeyboardInterrupt):
        for name, line in log_files.follow(paths, lines=lines, is_wanted=lambda: follow):
            typer.echo(f"{name:<{prefix_width}} | {line}" if prefix_width else line)


def doctor(format: FormatOption = Format.TABLE) -> None:
    """Check what Hindsight needs and say what to do about what is wrong. Ends with 1 when a check failed."""
    from topology.doctor import CHECKS, run_checks

    findings = list(run_checks(CHECKS))
    if format is Format.JSON:
        typer.echo(as_json([{"name": f.name, "verdict": f.verdict, "seen": f.seen, "do": f.do} for f in findings]))
    else:
        typer.echo(table(("check", "verdict", "seen", "do"), [(f.name, f.verdict, f.seen, f.do) for f in findings]))
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(1)


def config_show(format: FormatOption = Format.TABLE) -> None:
    """Print every setting in force and where its value came from; secrets are masked."""
    from topology.configuration import load

    configuration = load()
    if format is Format.JSON:
        typer.echo(as_json({one.name: {"value": one.shown, "from": one.source} for one in configuration.origins}))
        return
    rows = [(one.name, _cell(one.shown), one.source) for one in configuration.origins]
    typer.echo(table(("setting", "value", "from"), rows))


def _stack_of_home() -> "LocalStack":
    # Without the settings: a wrong setting must not keep anyone from seeing or stopping what runs.
    from topology.stack.layout import find_home
    from topology.stack.local import LocalStack

    return LocalStack(find_home(), say=lambda line: typer.echo(line, err=True))


def _ports(given: list[str]) -> dict[str, int]:
    ports = {}
    for text in given:
        name, _, number = text.partition("=")
        if not (number.isascii() and number.isdigit()) or not 0 < int(number) < 65536:
            raise typer.BadParameter(f"{text} is not LISTENER=PORT, such as kafka=9092", param_hint="--port")
        ports[name] = int(number)
    return ports


def _status_row(one: "ProgramState") -> dict[str, object]:
    from topology.stack.processes import is_alive, rss_bytes, uptime_s

    process = one.process if is_alive(one.process) else None
    last = one.last_exit
    return {
        "name": one.name,
        "state": one.condition,
        "pid": process.pid if process else None,
        "ports": dict(one.ports),
        "uptime_s": round(uptime_s(process), 1) if process else None,
        "ready_after_s": round(one.ready_after_s, 1) if one.ready_after_s is not None else None,
        "restarts": one.restarts,
        "rss_bytes": rss_bytes(process.pid) if process else None,
        "detail": one.detail,
        "last_exit": {"how": last.words, "at_us": last.at_us, "last_lines": list(last.last_lines)} if last else None,
    }


def _status_cells(row: dict[str, object]) -> tuple[object, ...]:
    ports, last = row["ports"], row["last_exit"]
    assert isinstance(ports, dict)
    detail = row["detail"] or (f"last time: {last['how']}" if isinstance(last, dict) else "")
    uptime, memory = row["uptime_s"], row["rss_bytes"]
    return (
        row["name"],
        row["state"],
        row["pid"] or "-",
        ",".join(str(port) for port in ports.values()) or "-",
        seconds_in_words(uptime) if isinstance(uptime, float) else "-",
        row["restarts"],
        bytes_in_words(memory) if isinstance(memory, int) else "-",
        detail,
    )


def _log_paths(server: str | None) -> list[Path]:
    layout = _stack_of_home().layout
    paths = sorted(layout.logs.glob("*.log")) if server is None else [layout.log(server)]
    if not paths or not all(path.exists() for path in paths):
        known = ", ".join(path.stem for path in sorted(layout.logs.glob("*.log"))) or "none yet"
        raise ConfigurationError(f"there is no log of {server or 'anything'} under {layout.logs}", do=f"logs there: {known}")
    return paths


def _cell(value: object) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
