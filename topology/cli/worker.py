"""`hindsight worker`: processors at work, until told to stop."""

import asyncio
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hindsight worker --processors infer,derive --metrics-port 15091")(worker)


def worker(
    processors: Annotated[str, typer.Option(help="Comma separated, or all.")] = "all",
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of /health and /metrics; from the settings when not given.")
    ] = None,
) -> None:
    """Run processors: assess, infer, derive, release, erase, views. Several workers share the partitions."""
    from topology.configuration import load
    from topology.processing import PROCESSORS
    from topology.telemetry import set_up
    from topology.worker import check_names, run_worker

    settings = load().settings
    set_up(settings.telemetry, service="worker")
    names = PROCESSORS if processors == "all" else check_names(tuple(p.strip() for p in processors.split(",")))
    raise typer.Exit(asyncio.run(run_worker(settings, names, metrics_port=metrics_port or settings.worker.metrics_port)))
