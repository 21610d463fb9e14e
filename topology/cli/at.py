"""`hindsight at`: what the system knew at a moment."""

from typing import TYPE_CHECKING, Annotated

import typer

from topology.cli.options import BundleOption
from topology.cli.tables import Format, as_json, table

if TYPE_CHECKING:
    from processors.lookback.at import DeviceAt
    from schemas.events import ResultDerived
    from streams.past import Past

_RULE = "-" * 78


def register(app: typer.Typer) -> None:
    app.command(epilog='Example: hindsight at "last tue 03:47" --device gate-1 --tz Europe/Berlin')(at)


def at(
    moment: Annotated[str, typer.Argument(help='RFC 3339, "2026-11-22 03:47", "last tue 03:47", "10m ago".')],
    device: Annotated[str, typer.Option(help="The device.")],
    tz: Annotated[str | None, typer.Option(help="Time zone of a moment without one; from the settings when not given.")] = None,
    around: Annotated[float, typer.Option(help="Seconds of events to show on each side of the moment.")] = 10.0,
    bundle: BundleOption = None,
    format: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Show a device's state as the system knew it at a moment: last frame, last result, release in force, alerts.

    Ends with 1 when nothing was known of the device then.
    """
    from processors.lookback.at import device_at
    from processors.lookback.gone import erased_by
    from schemas.plain import to_plain
    from streams.records import system_clock
    from topology.configuration import load
    from topology.moments import past_moment
    from topology.past import open_past

    settings = load().settings
    zone = tz or settings.timezone
    at_us = past_moment(moment, zone=zone, now_us=system_clock())
    with open_past(settings, bundle) as past:
        past.hold(at_us=at_us, device=device)
        pipeline = settings.pipeline.name if past.scope is None else past.scope.pipeline
        found = device_at(past.log, past.schemas, device_id=device, pipeline=pipeline, at_us=at_us, around_s=around)
        erased = erased_by(past.log, past.schemas, found.frames.last_frame)
        _say_what_is_outside(past, at_us, around)
    plain = {**to_plain(found), "last_frame_erased": erased}
    typer.echo(as_json(plain) if format is Format.JSON else "\n".join(_lines(found, zone, erased)))
    if found.frames.last_frame is None and found.frames.last_rejected is None:
        raise typer.Exit(1)


def _say_what_is_outside(past: "Past", at_us: int, around_s: float) -> None:
    if past.scope is None:
        return
    if at_us - around_s * 1e6 < past.scope.from_us or at_us + around_s * 1e6 > past.scope.to_us:
        typer.echo("events around the moment are shown as far as the bundle's window goes", err=True)


def _lines(found: "DeviceAt", zone: str, erased: str) -> list[str]:
    from topology.moments import show_moment

    head = [f"{found.device_id} as known at {show_moment(found.at_us, zone)}", _RULE]
    if found.frames.last_frame is None and found.frames.last_rejected is None:
        return [
            *head,
            "nothing was known of this device then",
            "do: check the name and the moment; `hindsight at now` shows today's",
        ]
    return [
        *head,
        *_frame_lines(found, zone, erased),
        *_result_lines(found),
        *_release_lines(found, zone),
        *_alert_lines(found, zone),
        *_around_lines(found, zone),
    ]


def _frame_lines(found: "DeviceAt", zone: str, erased: str) -> list[str]:
    from topology.moments import show_moment

    frames = found.frames
    counts = f"{frames.accepted_count} accepted, {frames.rejected_count} rejected"
    counts += f", {frames.repeated_count} repeated, {frames.missing_count} missing"
    if frames.last_frame is None:
        return ["last frame   none accepted", f"             {counts}", ""]
    frame = frames.last_frame
    warned = f"; warnings: {', '.join(frames.last_warnings)}" if frames.last_warnings else ""
    return [
        f"last frame   #{frame.sequence} of session {frame.session_id}, captured {show_moment(frame.captured_at_us, zone)}",
        f"             {frames.last_width_px}x{frames.last_height_px} px{warned}",
        f"             frame {frame.frame_id}",
        f"             blob sha256/{frame.blob.sha256} ({frame.blob.size_bytes} bytes, {frame.blob.media_type})",
        *([f"             {erased}"] if erased else []),
        f"             {counts}",
        "",
    ]


def _result_lines(found: "DeviceAt") -> list[str]:
    result = found.results.last_result
    if result is None:
        return ["last result  none", ""]
    said = [f"last result  {result.outcome} by {result.release or 'no release'}, frame #{result.frame.sequence}"]
    if result.detail:
        said.append(f"             {result.detail}")
    said += [f"             {line}" for line in _readings(result)]
    if result.conclusion is not None:
        c = result.conclusion
        verdict = {True: "valid", False: "check digit wrong", None: "not verifiable"}[c.valid]
        label = c.label if c.label is not None else "nothing"
        said.append(
            f"passage      {c.passage_id}: {label} ({verdict}), {c.votes_for} of {c.votes_total} votes, {c.frames_count} frames"
        )
    return [*said, ""]


def _readings(result: "ResultDerived") -> list[str]:
    rows = [
        (r.kind, r.label, f"{r.confidence:.3f}", {True: "valid", False: "invalid", None: "-"}[r.valid], _box(r.polygon_px))
        for r in result.readings
    ]
    return table(("kind", "text", "confidence", "proof", "box px"), rows).splitlines() if rows else []


def _box(polygon: tuple[float, ...]) -> str:
    xs, ys = polygon[0::2], polygon[1::2]
    return f"{min(xs):.0f},{min(ys):.0f} to {max(xs):.0f},{max(ys):.0f}" if xs else "-"


def _release_lines(found: "DeviceAt", zone: str) -> list[str]:
    from topology.moments import show_moment

    state = found.releases
    if state.in_force is None:
        return [f"release      none of {found.pipeline} was in force", ""]
    entry = state.releases[state.in_force]
    promoted = f"promoted {show_moment(state.promoted_at_us, zone)} by {state.promoted_by}"
    why = f": {state.promoted_reason}" if state.promoted_reason else ""
    rows = [(s.step, f"{s.model}:{s.version}", s.digest[:16]) for s in entry.steps]
    thresholds = ", ".join(f"{name}={value:g}" for name, value in sorted(state.thresholds().items()))
    return [
        f"release      {state.in_force}, {promoted}{why}",
        *(f"             {line}" for line in table(("step", "model", "digest"), rows).splitlines()),
        f"             thresholds: {thresholds or 'none'}",
        "",
    ]


def _alert_lines(found: "DeviceAt", zone: str) -> list[str]:
    from topology.moments import show_moment

    if not found.alerts.open:
        return []
    return [
        f"alert        {a.kind} since {show_moment(a.raised_at_us, zone)}: {a.message} (passage {a.passage_id})"
        for a in found.alerts.open[-5:]
    ] + [""]


def _around_lines(found: "DeviceAt", zone: str) -> list[str]:
    from topology.moments import show_moment

    if not found.around:
        return []
    shown = [
        (
            f"{'>' if e.appended_at_us <= found.at_us else ' '} {show_moment(e.appended_at_us, zone)}",
            e.type,
            f"{e.topic}/{e.partition}/{e.offset}",
            e.summary,
        )
        for e in found.around
    ]
    return [
        "events around the moment (> was known by then)",
        *table(("appended", "event", "position", "what"), shown).splitlines(),
    ]
