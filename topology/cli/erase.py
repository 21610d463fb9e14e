"""`hindsight erase`: make a device's frames of a time unreadable for ever, by an order that the log names."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption, say_what_is_not_held
from topology.cli.tables import Format, as_json

if TYPE_CHECKING:
    from processors.lookback.erasure import Affected, Span
    from schemas.events import FramesErased
    from streams.past import Past
    from topology.settings import Settings

_SHOWN = 20


def register(app: typer.Typer) -> None:
    example = 'hindsight erase --device gate-1 --from "2026-11-22 03:00" --to "2026-11-22 04:00" --order GDPR-17 --dry-run'
    app.command(epilog=f"Example: {example}")(erase)


def erase(
    device: Annotated[str, typer.Option(help="The device.")],
    from_: Annotated[str, typer.Option("--from", help="First capture to erase, by the device's clock.")],
    to: Annotated[str, typer.Option(help="First capture after it that stays.")],
    order: Annotated[str, typer.Option(help="The order's number, by which every command will name it.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be erased, and what derived from it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="List everything that derived from it, and not the first of it.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait until it is done.")] = 600.0,
    tz: ZoneOption = None,
    bundle: BundleOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Erase a device's frames of a time: their keys are destroyed, or, where they lie plain, their bytes are removed.

    The events stay, so the log can be verified; what was derived from the frames stays too, and is listed. Doing it again is
    fine. Ends with 1 when the order is refused or bytes were kept because other frames name them.
    """
    from processors.lookback.erasure import Span
    from schemas.errors import ConfigurationError
    from streams.records import system_clock
    from topology.configuration import load
    from topology.moments import parse_moment
    from topology.past import open_past

    settings = load().settings
    zone, now_us = tz or settings.timezone, system_clock()
    span = Span(
        device_id=device,
        from_us=parse_moment(from_, zone=zone, now_us=now_us),
        to_us=parse_moment(to, zone=zone, now_us=now_us),
    )
    if span.from_us >= span.to_us:
        raise ConfigurationError("--to is not after --from", setting="--to", do="give the time that is to be erased")
    if bundle is not None and not dry_run:
        raise ConfigurationError(
            "a bundle is a copy: nothing is erased in it", setting="--bundle", do="add --dry-run, or delete it"
        )
    with open_past(settings, bundle) as past:
        past.hold(device=device)
        say_what_is_not_held(past, span.from_us, span.to_us)
        planned = _planned(past, span, zone, order, show_all=all_ or format is Format.JSON)
    if format is Format.TABLE:
        typer.echo("\n".join(_plan_lines(planned, dry_run=dry_run)))
    if dry_run:
        if format is Format.JSON:
            typer.echo(as_json(planned))
        return
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("nobody can be asked here", setting="--yes", do="add --yes to erase without being asked")
        typer.confirm(f"erase {planned['frames']} frames for ever?", abort=True)
    event = _send(settings, span, order, reason, wait)
    if format is Format.JSON:
        from schemas.plain import to_plain

        typer.echo(as_json({**planned, "event": to_plain(event)}))
    else:
        typer.echo("\n".join(_done_lines(event, zone)))
    if event.kept_count:
        raise typer.Exit(1)


def _planned(past: "Past", span: "Span", zone: str, order: str, *, show_all: bool) -> dict[str, Any]:
    """What the log says of the span, as plain values."""
    from processors.lookback.erasure import derived_from, digest_of_list, frames_of
    from topology.moments import show_moment

    frames = {f.frame_id: f.blob for f in frames_of(past.log, past.schemas, span)}
    listed: list[str] = []

    def noted(affected: "Affected") -> "Affected":
        if show_all or len(listed) < _SHOWN:
            listed.append(affected.line)
        return affected

    counts, digest = digest_of_list(noted(a) for a in derived_from(past.log, past.schemas, span))
    return {
        "order": order,
        "device": span.device_id,
        "from": show_moment(span.from_us, zone),
        "to": show_moment(span.to_us, zone),
        "source": past.source,
        "frames": len(frames),
        "encrypted": sum(b.key_id is not None for b in frames.values()),
        "plain": sum(b.key_id is None for b in frames.values()),
        "keys": sorted({b.key_id.rpartition("/")[0] for b in frames.values() if b.key_id is not None}),
        "derived_counts": dict(sorted(counts.items())),
        "derived_digest": digest,
        "derived": listed,
    }


def _plan_lines(planned: dict[str, Any], *, dry_run: bool) -> list[str]:
    total = sum(planned["derived_counts"].values())
    sealed = f"{planned['encrypted']} encrypted under {len(planned['keys'])} keys"
    lines = [
        f"{'would be erased' if dry_run else 'to be erased'} by order {planned['order']}, from {planned['source']}:",
        f"  {planned['device']}, captured from {planned['from']} to {planned['to']}",
        f"  {planned['frames']} frames: {sealed}, {planned['plain']} plain",
        f"derived from them, and staying on the log: {total} events (list's sha256 {planned['derived_digest'][:16]})",
        *(f"  {count:>8}  {name}" for name, count in planned["derived_counts"].items()),
        *(f"  {line}" for line in planned["derived"]),
    ]
    if total > len(planned["derived"]):
        lines.append(f"  and {total - len(planned['derived'])} more; --all lists them")
    return [
        *lines,
        "out of reach: what a device has not sent yet (its spool), bundles and exports made before, backups of the keys' bucket,",
        "and texts that were read (they are in the events above)",
    ]


def _send(settings: "Settings", span: "Span", order: str, reason: str, wait_s: float) -> "FramesErased":
    from schemas.catalogue import ERASURES
    from schemas.errors import ContractError
    from schemas.events import EraseFrames, ErasureRefused, FramesErased
    from schemas.types import DeviceId
    from streams.records import system_clock
    from topology import commands

    command = EraseFrames(
        command_id=commands.new_command_id(),
        device_id=DeviceId(span.device_id),
        order_id=order,
        captured_from_us=span.from_us,
        captured_to_us=span.to_us,
        issued_by=commands.who(),
        reason=reason,
        issued_at_us=system_clock(),
    )

    def settles(event: Any) -> bool:
        if isinstance(event, ErasureRefused):
            return bool(event.command_id == command.command_id)
        return isinstance(event, FramesErased) and event.order_id == order and event.ordered_at_us == command.issued_at_us

    event = commands.send(settings, command, until=settles, timeout_s=wait_s, topic=ERASURES)
    if isinstance(event, ErasureRefused):
        raise ContractError(f"refused ({event.refusal}): {event.detail}", do="correct the order, or give it another number")
    assert isinstance(event, FramesErased), "one of the two settles it"
    return event


def _done_lines(event: "FramesErased", zone: str) -> list[str]:
    from topology.moments import show_moment

    lines = [
        f"erased by order {event.order_id} at {show_moment(event.erased_at_us, zone)}: {event.frames_count} frames, "
        f"{event.encrypted_count} by {len(event.key_ids)} keys, {event.removed_count} removed"
    ]
    if event.kept_count:
        lines.append(f"kept: {event.kept_count} blobs that frames outside this time name too, such as {event.kept_sha256[0]}")
    return lines
