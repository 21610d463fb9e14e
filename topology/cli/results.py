"""`hindsight results`: what frames counted for, as it comes or as it was."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.tables import Format

if TYPE_CHECKING:
    from processors.repeats import Seen
    from schemas.codec import Schemas
    from streams.ports import EventLog

# A worker that dies writes the results of its last batch again: a few hundred, unless `worker.batch_records` was raised.
_LOOK_BACK_RECORDS = 1000


def register(app: typer.Typer) -> None:
    app.command(epilog='Example: hindsight results --device gate-1 --from "10m ago" --follow')(results)


def results(
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="From this moment; from the start when not given.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as results come; only new ones when --from is not given.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many lines; with --follow, wait for them.")] = None,
    tz: Annotated[str | None, typer.Option(help="Time zone of a moment without one.")] = None,
    format: Annotated[Format, typer.Option("--format", help="table: a line each; json: a JSON object a line.")] = Format.TABLE,
) -> None:
    """Print results, oldest first in each partition; repeats are dropped."""
    from processors.repeats import writer_of
    from schemas.catalogue import RESULTS
    from schemas.codec import decode
    from schemas.errors import ContractError
    from streams.records import system_clock
    from topology import wiring
    from topology.configuration import load
    from topology.moments import parse_moment

    settings = load().settings
    zone = tz or settings.timezone
    log, schemas = wiring.event_log(settings), wiring.schemas(settings)
    at_ms = None if since is None else parse_moment(since, zone=zone, now_us=system_clock()) // 1000
    starts, ends = {}, {}
    for p in log.partitions(RESULTS):
        bounds = log.bounds(RESULTS, p)
        ends[p] = bounds.end
        starts[p] = log.offset_at(RESULTS, p, at_ms) if at_ms is not None else bounds.end if follow else bounds.earliest
    seen, shown = {p: _seen_before(log, schemas, p, start) for p, start in starts.items()}, 0
    records = (
        log.follow(RESULTS, starts, lambda: False)
        if follow
        else (r for p in starts for r in log.read(RESULTS, p, starts[p], ends[p]))
    )
    try:
        for record in records:
            if record is None:
                continue
            try:
                event = decode(record.value, RESULTS, schemas)
            except ContractError as error:
                typer.echo(f"{RESULTS}/{record.partition}/{record.offset}: {error}", err=True)
                continue
            if seen[record.partition].is_repeat(event, writer_of(record)):
                continue
            seen[record.partition] = seen[record.partition].with_event(event, writer_of(record))
            if device is None or record.key == device.encode():
                typer.echo(_line(record, event, zone, format))
                shown += 1
                if shown == count:
                    break
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        log.close()


def _seen_before(log: "EventLog", schemas: "Schemas", partition: int, start: int) -> "Seen":
    """What the records before the first one shown say, so that one that was written before, and then again, is not news."""
    from processors.repeats import Seen, writer_of
    from schemas.catalogue import RESULTS
    from schemas.codec import decode
    from schemas.errors import ContractError

    seen = Seen()
    for record in log.read(RESULTS, partition, max(log.bounds(RESULTS, partition).earliest, start - _LOOK_BACK_RECORDS), start):
        try:
            seen = seen.with_event(decode(record.value, RESULTS, schemas), writer_of(record))
        except ContractError:
            continue
    return seen


def _line(record: Any, event: Any, zone: str, format: Format) -> str:
    from schemas.events import ResultCorrected
    from schemas.plain import to_plain
    from topology.moments import show_moment

    if format is Format.JSON:
        where = {"partition": record.partition, "offset": record.offset, "appended_at_ms": record.appended_at_ms}
        return json.dumps({"event": type(event).__name__, "position": where, **to_plain(event)}, ensure_ascii=False)
    at = f"{show_moment(record.appended_at_ms * 1000, zone)}  {f'{record.topic}/{record.partition}/{record.offset}':<20}"
    if isinstance(event, ResultCorrected):
        change = f"{event.previous.label} becomes {event.conclusion.label}"
        return f"{at}  {event.device_id:<10} passage {event.conclusion.passage_id}: {change}"
    labels = ", ".join(r.label + {True: " ok", False: " BAD", None: ""}[r.valid] for r in event.readings)
    frame = f"{event.frame.device_id:<10} #{event.frame.sequence:<5}"
    return f"{at}  {frame} {event.outcome:<12} {event.release or '-':<16} {labels or event.detail}".rstrip()
