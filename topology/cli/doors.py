"""`hindsight gateway` and `hindsight http`: the two doors by which frames come in."""

import asyncio

import typer


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: HINDSIGHT_GATEWAY__PORT=6000 hindsight gateway")(gateway)
    app.command(epilog="Example: HINDSIGHT_HTTP__PORT=8080 hindsight http")(http)


def gateway() -> None:
    """Run the gRPC gateway: devices stream frames to it. SIGTERM drains it."""
    from topology.configuration import load
    from topology.doors import run_grpc
    from topology.telemetry import set_up

    settings = load().settings
    set_up(settings.telemetry, service="gateway")
    raise typer.Exit(asyncio.run(run_grpc(settings)))


def http() -> None:
    """Run the HTTP gateway: POST /analyze, GET /tasks/{id}, GET /results/stream, and /docs for the rest."""
    from topology.configuration import load
    from topology.doors import run_http
    from topology.telemetry import set_up

    settings = load().settings
    set_up(settings.telemetry, service="http")
    raise typer.Exit(asyncio.run(run_http(settings)))
