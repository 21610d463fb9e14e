"""`hindsight bisect`: the first change after which results became otherwise."""

from typing import TYPE_CHECKING, Annotated

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption, say_what_is_not_held
from topology.cli.tables import Format, as_json

if TYPE_CHECKING:
    from processors.lookback.changed import Bisection
    from processors.lookback.rates import Rate


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hindsight bisect --from yesterday --to now --where \"outcome == 'read' and confidence < 0.5\"")(
        bisect
    )


def bisect(
    since: Annotated[str, typer.Option("--from", help="From this moment.")],
    where: Annotated[str, typer.Option(help='A condition over results, such as "kind == \'text\'" or "text_confidence < 0.5".')],
    until: Annotated[str, typer.Option("--to", help="Up to this moment.")] = "now",
    device: Annotated[str | None, typer.Option(help="Only this device's results.")] = None,
    bundle: BundleOption = None,
    tz: ZoneOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Find the first event (promotion, threshold, restart, drift) after which a condition held more or less often.

    Reads some thousands of records, however long the log is. Ends with 1 when nothing changed, or too few passages prove it.
    """
    from processors.lookback import bisect as lookback
    from schemas.plain import to_plain
    from streams.records import system_clock
    from topology.configuration import load
    from topology.moments import parse_moment
    from topology.past import open_past, pipeline_of
    from topology.rules import rules_at_hand

    settings = load().settings
    zone = tz or settings.timezone
    now_us = system_clock()

    def say(told: str) -> None:
        typer.echo(told, err=True)

    with open_past(settings, bundle) as past:
        from_us, to_us = parse_moment(since, zone=zone, now_us=now_us), parse_moment(until, zone=zone, now_us=now_us)
        say_what_is_not_held(past, from_us, to_us)
        found = lookback.bisect(
            past,
            where=where,
            from_us=from_us,
            to_us=to_us,
            pipeline=pipeline_of(settings, past),
            device=device,
            rules=rules_at_hand(settings, say),
            say=say,
        )
    typer.echo(as_json(to_plain(found)) if format is Format.JSON else "\n".join(_lines(found, zone)))
    if not found.found:
        raise typer.Exit(1)


def _lines(found: "Bisection", zone: str) -> list[str]:
    from processors.lookback.words import shown
    from topology.moments import show_moment

    read = f"{found.records_read} records read of {found.records_count} results and their inferences, from {found.source}"
    if found.after is None or found.first_differing is None or found.first_after is None:
        return [found.verdict, read]
    first = found.first_differing
    since = f"{found.first_after}, appended {show_moment(found.first_after.appended_at_us, zone)}"
    out = [
        f"verdict: {found.verdict}",
        f"before   {_rate(found.before)}, the last at {found.last_before}",
        f"after    {_rate(found.after)}, from {since}",
        f"first    {shown(first.device)} #{first.sequence} {first.position}: {shown(first.said)}",
        f"         hindsight explain {first.position}",
    ]
    for s in found.suspects:
        out += [f"- {s.kind}: {s.says}", f"    {', '.join(map(str, s.evidence))}"]
    if not found.suspects:
        out.append("- nothing that is recorded changed there: look at what the cameras saw")
    if found.changes_again:
        out.append("it changes again later; ask with a later --from for the next change")
    return [*out, read]


def _rate(rate: "Rate") -> str:
    from processors.lookback.changed import of_passages

    between = f"95 % between {rate.low:.1%} and {rate.high:.1%}"
    return f"{rate.hits} of {rate.count} sampled{of_passages(rate)} ({rate.share:.1%}, {between})"
