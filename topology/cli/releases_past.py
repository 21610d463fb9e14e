"""`hindsight releases show|diff|history|at`: what the log says of releases, live or from a bundle."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption
from topology.cli.tables import Format, as_json, table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from processors.release.core import PipelineReleases


def register(releases: typer.Typer) -> None:
    releases.command(epilog="Example: hindsight releases show gate_reader_r2")(show)
    releases.command(epilog="Example: hindsight releases diff gate_reader_r1 gate_reader_r2")(diff)
    releases.command(epilog="Example: hindsight releases history --bundle incident.hsb")(history)
    releases.command(epilog='Example: hindsight releases at "last tue 03:47" --tz Europe/Berlin')(at)


def show(name: str, bundle: BundleOption = None, format: FormatOption = Format.TABLE) -> None:
    """One release: its pins and thresholds, how it stands, and the numbers of its trial or of the last verdict."""
    from schemas.envelope import rfc3339
    from schemas.plain import to_plain

    state, events, trial = _known(bundle)
    entry = state.releases.get(name) or _no_such(name, state)
    own = [(at_us, e) for at_us, e in events if getattr(e, "release", None) == name]
    judged = [(at_us, e) for at_us, e in own if type(e).__name__ == "RolloutJudged"]
    if format is Format.JSON:
        told = [{"appended_at": rfc3339(at_us), "event": type(e).__name__, **to_plain(e)} for at_us, e in own]
        found = trial if state.rollout is not None and state.rollout.release == name else None
        typer.echo(as_json({"release": name, "state": standing(state, name), **to_plain(entry), "events": told, "trial": found}))
        return
    typer.echo(f"{name}: {standing(state, name)}")
    typer.echo(f"registered {rfc3339(entry.registered_at_us)} by {entry.registered_by}")
    typer.echo(
        f"loaded on {', '.join(entry.loaded_on) or 'no inference server'}{f': {entry.load_error}' * bool(entry.load_error)}"
    )
    typer.echo(table(("step", "model", "digest"), [(s.step, f"{s.model}:{s.version}", s.digest) for s in entry.steps]))
    typer.echo("thresholds: " + (", ".join(f"{k}={v:g}" for k, v in sorted(state.thresholds(name).items())) or "none"))
    if trial and state.rollout is not None and state.rollout.release == name:
        typer.echo(f"on trial, stage {state.rollout.stage + 1}, so far:")
        typer.echo(table(("measure", "value"), [(k, f"{v:.6g}") for k, v in sorted(trial.items())]))
    elif judged:
        at_us, event = judged[-1]
        by = f", by {event.deciding}" * bool(event.deciding)
        typer.echo(f"last verdict: {event.verdict}{by}, stage {event.stage + 1}, {rfc3339(at_us)}")
        typer.echo(table(("measure", "value"), [(k, f"{v:.6g}") for k, v in sorted(event.measures.items())]))


def diff(first: str, second: str, bundle: BundleOption = None, format: FormatOption = Format.TABLE) -> None:
    """What differs between two releases: steps, digests, thresholds. Ends with 1 when something does."""
    from schemas.plain import to_plain

    state, _, _ = _known(bundle)
    one, other = (state.releases.get(name) or _no_such(name, state) for name in (first, second))
    pins = {
        name: {s.step: f"{s.model}:{s.version} {s.digest}" for s in entry.steps}
        for name, entry in ((first, one), (second, other))
    }
    values = {name: {k: f"{v:g}" for k, v in entry.parameters.items()} for name, entry in ((first, one), (second, other))}
    rows = [
        (what, name, found[first].get(name, "-"), found[second].get(name, "-"))
        for what, found in (("step", pins), ("threshold", values))
        for name in sorted(found[first].keys() | found[second].keys())
        if found[first].get(name) != found[second].get(name)
    ]
    if format is Format.JSON:
        told = [{"what": what, "name": name, first: a, second: b} for what, name, a, b in rows]
        typer.echo(as_json({"first": to_plain(one), "second": to_plain(other), "differences": told}))
    else:
        short = [(what, name, _short(a), _short(b)) for what, name, a, b in rows]
        typer.echo(table(("what", "name", first, second), short) if rows else f"{first} and {second} pin the same")
    if rows:
        raise typer.Exit(1)


def history(bundle: BundleOption = None, format: FormatOption = Format.TABLE) -> None:
    """Every event of vision.releases, oldest first: who did what, when and why."""
    from schemas.catalogue import RELEASES
    from schemas.codec import decode
    from schemas.envelope import rfc3339
    from schemas.errors import ContractError
    from schemas.plain import to_plain
    from topology.configuration import load
    from topology.past import open_past

    rows: list[dict[str, Any]] = []
    with open_past(load().settings, bundle) as past:
        bounds = past.log.bounds(RELEASES, 0)
        for record in past.log.read(RELEASES, 0, bounds.earliest, bounds.end):
            row: dict[str, Any] = {"appended_at": rfc3339(record.appended_at_ms * 1000), "offset": record.offset}
            try:
                event = decode(record.value, RELEASES, past.schemas)
                rows.append({**row, "event": type(event).__name__, **to_plain(event)})
            except ContractError as error:
                rows.append({**row, "event": "unreadable", "detail": str(error)})
    if format is Format.JSON:
        typer.echo(as_json(rows))
        return
    cells = [(r["appended_at"], r["event"], _what(r), r.get("issued_by", ""), _why(r)) for r in rows]
    typer.echo(table(("appended at", "event", "what", "by", "why"), cells))


def at(
    moment: Annotated[str, typer.Argument(help='RFC 3339, "2026-11-22 03:47", "last tue 03:47", "10m ago".')],
    tz: ZoneOption = None,
    bundle: BundleOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Which release answered in production at a moment, with what, and what was on trial. Ends with 1 when none did."""
    from processors.lookback.production import in_production
    from schemas.plain import to_plain
    from streams.records import system_clock
    from topology.configuration import load
    from topology.moments import past_moment, show_moment
    from topology.past import open_past, pipeline_of

    settings = load().settings
    zone = tz or settings.timezone
    at_us = past_moment(moment, zone=zone, now_us=system_clock())
    with open_past(settings, bundle) as past:
        past.hold(at_us=at_us)
        found = in_production(past, pipeline_of(settings, past), at_us)
    if format is Format.JSON:
        typer.echo(as_json(to_plain(found)))
    elif found.release is None:
        typer.echo(f"{show_moment(at_us, zone)}: no release of {found.pipeline} was in force")
    else:
        typer.echo(f"{show_moment(at_us, zone)}: {found.release}, since {show_moment(found.since_us, zone)}")
        typer.echo(f"put in force by {found.by}: {found.reason or 'no reason given'}; before it: {found.previous or 'none'}")
        typer.echo(table(("step", "model", "digest"), [(s.step, f"{s.model}:{s.version}", s.digest) for s in found.steps]))
        typer.echo("thresholds: " + (", ".join(f"{k}={v:g}" for k, v in sorted(found.parameters.items())) or "none"))
        if (trial := found.rollout) is not None:
            share = f" of {trial.percent:g} % of the {trial.unit}s" if trial.kind == "canary" else ""
            typer.echo(f"on trial: {trial.release}, a {trial.kind}{share}, by {trial.issued_by}")
    if found.release is None:
        raise typer.Exit(1)


def standing(state: "PipelineReleases", name: str) -> str:
    """How a release stands, in a few words."""
    entry, trial = state.releases[name], state.rollout
    if name == state.in_force:
        return "in force"
    if state.pending is not None and state.pending.release == name:
        return "waits to be loaded"
    if trial is not None and trial.release == name:
        verdict = f", {trial.verdict}" * bool(trial.verdict)
        return f"canary {trial.percent:g} %{verdict}" if trial.kind == "canary" else f"shadow{verdict}"
    found = "load failed" if entry.load_error and not entry.loaded_on else "loaded" if entry.loaded_on else "registered"
    return f"{found}, verdict {entry.verdict}" if entry.verdict else found


def _known(bundle: "Path | None") -> "tuple[PipelineReleases, list[tuple[int, Any]], Mapping[str, float]]":
    """The pipeline's releases, every event of theirs with its moment, and the numbers of what is on trial, from the log or a
    bundle."""
    from processors.lookback.trial import so_far
    from processors.release.state import INITIAL, SHADOW, fold
    from processors.repeats import Seen, writer_of
    from processors.rollout import measures
    from schemas.catalogue import RELEASES
    from streams.events import events_of
    from topology.configuration import load
    from topology.past import open_past, pipeline_of

    settings = load().settings
    state, seen, events = INITIAL, Seen(), []
    with open_past(settings, bundle) as past:
        for record, event in events_of(past.log, past.schemas, RELEASES, 0, key=pipeline_of(settings, past).encode()):
            if not seen.is_repeat(event, writer_of(record)):
                seen, state = seen.with_event(event, writer_of(record)), fold(state, event)
                events.append((record.appended_at_ms * 1000, event))
        plan, trial = settings.rollouts.plan, None
        if state.rollout is not None:
            trial = so_far(past, pipeline_of(settings, past), state.rollout, lambda kind: plan(paired=kind == SHADOW))
    return state, events, measures(trial) if trial is not None else {}


def _no_such(name: str, state: "PipelineReleases") -> Any:
    from schemas.errors import ContractError

    known = ", ".join(sorted(state.releases)) or "none yet"
    raise ContractError(f"{name} is not a registered release; there are: {known}", do="hindsight releases list")


def _short(pin: str) -> str:
    """A pin as a table shows it: the model, and the beginning of its digest."""
    model, _, digest = pin.partition(" ")
    return f"{model} {digest[:16]}".strip()


def _what(row: dict[str, Any]) -> str:
    if row.get("command"):
        return f"{row['command']} {row.get('release') or ''}".strip()
    if "missing" in row and "unknown" in row:
        lists = [f"{name} {', '.join(row[name])}" for name in ("missing", "unknown") if row[name]]
        return "; ".join(lists) or "agrees again"
    model = ":".join(str(row[name]) for name in ("model", "version") if name in row)
    percent = f" {row['percent']:g} %" if "percent" in row else ""
    verdict = f" {row['verdict']}" if "verdict" in row else f" {row['outcome']}" if "outcome" in row else ""
    return f"{row.get('release') or model or row.get('name', '')}{percent}{verdict}"


def _why(row: dict[str, Any]) -> str:
    names = ("detail", "error_message", "reason", "deciding", "endpoint")
    return next((str(row[name]) for name in names if row.get(name)), "")
