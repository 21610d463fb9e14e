"""`hindsight publish`: an edge device from the command line. A folder, a video or a camera, through a spool, to the gateway.

Frames are taken from the source by a thread of their own and put into the spool; the client sends the spool. Ends with
0 once everything is acknowledged. Stopped before that, the spool keeps what is left, and the next run goes on there.
"""

import asyncio
import contextlib
import enum
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.edge import Capture, EdgeClient, Progress, Spool

EXIT_INTERRUPTED = 130
_MIB = 1024 * 1024
_SHOW_EVERY_S = 0.2


class Drop(enum.StrEnum):
    """What `--drop` takes."""

    OLDEST = "oldest"
    NEWEST = "newest"
    BLOCK = "block"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: hindsight publish street.mp4 --device gate-1 --fps 5")(publish)


def publish(
    source: Annotated[str, typer.Argument(help="A folder of images, a video, a camera's number, or an RTSP address.")],
    device: Annotated[str, typer.Option(help="Whose frames these are.")],
    fps: Annotated[float, typer.Option(min=0, help="Frames a second; 0 sends every frame as fast as it goes.")] = 5,
    gateway: Annotated[str, typer.Option(help="host:port; by default the one in the settings.")] = "",
    spool: Annotated[Path | None, typer.Option(help="Folder of the spool; by default one for each device.")] = None,
    spool_limit_mb: Annotated[int, typer.Option(min=1, help="Most megabytes kept on disk.")] = 512,
    drop: Annotated[Drop, typer.Option(help="When the spool is full: drop the oldest, the newest, or wait.")] = Drop.OLDEST,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
) -> None:
    """Send frames of a folder, video or camera to the gateway, through outages and restarts, each counted once."""
    from streams.edge import Spool
    from streams.edge.sources import is_live, open_source
    from streams.records import system_clock

    address, folder = gateway, spool
    if not address or folder is None:
        default_address, home = _settings()
        address = address or default_address
        folder = folder or home / "spool" / device
    with Spool(folder, device_id=device, limit_bytes=spool_limit_mb * _MIB, drop=drop.value) as opened:
        captures = open_source(source, fps=fps, clock=system_clock, after=opened.mark, loop=loop)
        complete = asyncio.run(_run(address, opened, islice(captures, limit), 0 if is_live(source) else fps))
        left = opened.contents()
        if complete:
            opened.forget_mark()
    if not complete:
        typer.echo(f"stopped; {left.frames_count} frames wait in {folder}, and the next run sends them", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)


def _settings() -> tuple[str, Path]:
    """The gateway's address and the home, as the settings have them."""
    from topology.configuration import load

    configuration = load()
    where = configuration.settings.gateway
    return f"{where.host}:{where.port}", configuration.home


async def _run(address: str, spool: "Spool", captures: "Iterator[Capture]", fps: float) -> bool:
    """Send everything; False when a signal came first."""
    from streams.edge import EdgeClient

    interrupted, done = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    with _shown(spool) as show:
        client = EdgeClient(address, spool, progressed=show)
        sending = asyncio.create_task(client.run(done))
        offering = asyncio.create_task(_offer_all(client, captures, fps, interrupted))
        stopping = asyncio.create_task(interrupted.wait())
        try:
            await asyncio.wait({offering, sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            return not interrupted.is_set() and await offering
        finally:
            stopping.cancel()
            # Set before the client's end is awaited: nothing after this is sent, and what is unanswered stays.
            done.set()
            interrupted.set()
            with contextlib.suppress(asyncio.CancelledError):
                await offering
            await sending
            show(client.progress)


async def _offer_all(client: "EdgeClient", captures: "Iterator[Capture]", fps: float, interrupted: asyncio.Event) -> bool:
    """Offer every frame, `fps` a second, then wait until the spool is empty; False when interrupted before that."""
    from streams.records import system_clock

    due_s = time.monotonic()
    while (capture := await asyncio.to_thread(next, captures, None)) is not None:
        if fps > 0:
            await _unless(interrupted, asyncio.sleep(max(0.0, due_s - time.monotonic())))
            # What fell behind is not made up for by a burst.
            due_s = max(due_s + 1 / fps, time.monotonic())
            capture = replace(capture, captured_at_us=system_clock())
        if interrupted.is_set() or not await _unless(interrupted, client.offer(capture)):
            return False
    return await _unless(interrupted, client.drained())


async def _unless(interrupted: asyncio.Event, work: "Coroutine[object, object, object]") -> bool:
    """Do it, but give it up when the signal comes; whether it was done."""
    doing = asyncio.create_task(work)
    waiting = asyncio.create_task(interrupted.wait())
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        return False
    finally:
        doing.cancel()
        waiting.cancel()


@contextlib.contextmanager
def _shown(spool: "Spool") -> "Iterator[Callable[[Progress], None]]":
    """One line, kept up to date on a terminal; elsewhere only the last one is printed."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn

    console = Console(stderr=True)
    begin_s, shown_s, latest = time.monotonic(), 0.0, ""
    with Bars(SpinnerColumn(), TextColumn("{task.description}"), console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("starting")

        def show(progress: "Progress") -> None:
            nonlocal shown_s, latest
            now_s = time.monotonic()
            latest = _line(spool, progress, now_s - begin_s)
            if now_s - shown_s >= _SHOW_EVERY_S:
                shown_s = now_s
                bars.update(task, description=latest)

        yield show
    console.print(latest, highlight=False)


def _line(spool: "Spool", progress: "Progress", seconds: float) -> str:
    state = "" if progress.connected or not progress.trouble else f"; gateway away ({progress.trouble})"
    rate = progress.acknowledged / seconds if seconds > 0 else 0.0
    rejected = f" ({progress.rejected} rejected)" if progress.rejected else ""
    return (
        f"{spool.device_id}: {progress.offered} spooled, {progress.sent} sent, {progress.acknowledged} acknowledged{rejected}, "
        f"{progress.dropped} dropped, {rate:.1f} frames/s{state}"
    )
