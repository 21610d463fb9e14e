"""`hindsight why-not`: why a device showed nothing, or not what was expected."""

from typing import TYPE_CHECKING, Annotated

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption
from topology.cli.tables import Format, as_json

if TYPE_CHECKING:
    from processors.lookback.why_not import WhyNot

_EVIDENCE_MOST = 4


def register(app: typer.Typer) -> None:
    app.command("why-not", epilog='Example: hindsight why-not --device gate-1 --at "last tue 03:47" --expect MSCU1234566')(
        why_not
    )


def why_not(
    device: Annotated[str, typer.Option(help="The device.")],
    at: Annotated[str, typer.Option(help='The moment: RFC 3339, "2026-11-22 03:47", "last tue 03:47", "10m ago".')],
    expect: Annotated[str | None, typer.Option(help="The text that should have been read.")] = None,
    around: Annotated[str, typer.Option(help='How far to look on each side of the moment, such as "30s" or "5m".')] = "30s",
    bundle: BundleOption = None,
    tz: ZoneOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Find evidence of absence: frames that never came, were stopped, read below threshold, outvoted, or late.

    Ends with 0 when a reason was found, and with 1 when nothing explains it or it is not absent at all.
    """
    from processors.lookback import why_not as lookback
    from processors.lookback.words import shown
    from schemas.errors import ConfigurationError
    from schemas.plain import to_plain
    from streams.records import system_clock
    from topology.configuration import load
    from topology.moments import parse_duration_s, past_moment, show_moment
    from topology.past import open_past, pipeline_of
    from topology.rules import rules_at_hand

    if expect is not None and not expect.strip():
        raise ConfigurationError("nothing is expected", setting="--expect", do="name the text, or leave --expect out")
    settings = load().settings
    zone = tz or settings.timezone
    at_us = past_moment(at, zone=zone, now_us=system_clock())
    around_s = parse_duration_s(around)

    def moment(time_us: int) -> str:
        return show_moment(time_us, zone)

    def say(told: str) -> None:
        typer.echo(shown(told), err=True)

    with open_past(settings, bundle) as past:
        found = lookback.why_not(
            past,
            device=device,
            at_us=at_us,
            pipeline=pipeline_of(settings, past),
            around_s=around_s,
            expected=expect,
            rules=rules_at_hand(settings, say),
            moment=moment,
            say=say,
        )
    typer.echo(as_json(to_plain(found)) if format is Format.JSON else "\n".join(_lines(found, zone)))
    if not found.explained:
        raise typer.Exit(1)


def _lines(found: "WhyNot", zone: str) -> list[str]:
    from processors.lookback.words import shown
    from topology.moments import show_moment

    head = f"{shown(found.device)} at {show_moment(found.at_us, zone)}: {found.frames_count} frames within the window"
    out = [head, f"verdict: {found.verdict}"]
    for f in found.findings:
        where = ", ".join(map(str, f.evidence[:_EVIDENCE_MOST]))
        more = f" and {len(f.evidence) - _EVIDENCE_MOST} more" if len(f.evidence) > _EVIDENCE_MOST else ""
        out.append(f"{'-' if f.explains else ' '} {f.reason}: {f.says}")
        out += [f"    {where}{more}"] if where else []
    return [*out, "checked", *(f"    {shown(line)}" for line in found.checked), f"from {found.source}"]
