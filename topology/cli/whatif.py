"""`hindsight whatif`: a past window, read by another release or with other parameters."""

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption, hold_writable, say_what_is_not_held
from topology.cli.tables import Format, as_json, table

if TYPE_CHECKING:
    from processors.whatif.replay import FrameCompared, Side

_CASES_SHOWN = 5


def register(app: typer.Typer) -> None:
    app.command(epilog='Example: hindsight whatif --from "1 hour ago" --release gate_reader_r2 --html whatif.html')(whatif)


def whatif(
    since: Annotated[str, typer.Option("--from", help="Frames that were read from this moment on.")],
    until: Annotated[str, typer.Option("--to", help="Frames that were read before this moment.")] = "now",
    release: Annotated[str | None, typer.Option(help="Read them with this release; with that of then when not given.")] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="Another value of a parameter, such as text_confidence=0.7; may be repeated.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many frames, the oldest.")] = None,
    cases: Annotated[int, typer.Option(min=0, max=100, help="How many of the worst frames to show.")] = 12,
    html: Annotated[Path | None, typer.Option(help="Write the report with pictures here, as one self-contained page.")] = None,
    trust_models: Annotated[bool, typer.Option("--trust-models", help="Run the models that the bundle brings.")] = False,
    bundle: BundleOption = None,
    tz: ZoneOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """What a past window would have been under another release or other parameters, beside what was recorded.

    Models are called again for each frame; results go nowhere but into the report: nothing is written to log, views or
    blobs. Ends with 1 when no frame of the window could be read.
    """
    from processors.lookback.releases import ReleaseHistory
    from processors.rules.contract import load as load_rules
    from processors.whatif.page import page
    from processors.whatif.replay import Question, WhatIf
    from processors.whatif.tally import Tally
    from schemas.errors import ConfigurationError
    from streams.records import system_clock
    from topology.cli.progress import Progress
    from topology.configuration import load
    from topology.moments import parse_moment, show_moment
    from topology.past import open_past, pipeline_of
    from topology.reading import open_models

    question = Question(release=release, thresholds=dict(_threshold(text) for text in threshold or ()))
    if release is None and not question.thresholds:
        raise ConfigurationError("nothing is asked to be otherwise", do="give --release, or --threshold, or both")
    hold_writable(html, "--html")
    configuration = load()
    settings = configuration.settings
    zone, now_us = tz or settings.timezone, system_clock()
    from_us, to_us = parse_moment(since, zone=zone, now_us=now_us), parse_moment(until, zone=zone, now_us=now_us)
    tally = Tally(cases=cases)
    with (
        open_past(settings, bundle) as past,
        open_models(configuration, past, trusted=bundle is None or trust_models) as models,
        Progress("read again") as progress,
    ):
        past.hold(device=device)
        say_what_is_not_held(past, from_us, to_us)
        rules = load_rules(settings.pipeline.rules)
        asked = WhatIf(past, models, ReleaseHistory(past, pipeline_of(settings, past)), rules, question)
        for frame in islice(asked.frames(from_us, to_us, device=device), limit):
            tally.count(frame)
            progress.step()
        tally.finish()
        report = {
            "source": past.source,
            "from": show_moment(from_us, zone),
            "to": show_moment(to_us, zone),
            "device": device,
            "question": {"release": release, "thresholds": dict(question.thresholds)},
            "rules": f"{rules.NAME}@{rules.VERSION}",
            "runner": models.runner,
            "took_s": round(progress.took_s, 3),
            "models_called": asked.read,
            **tally.as_plain(),
            "alerts_listed": {which: [_plain_alert(a) for a in tally.alerts(which)] for which in ("gained", "lost")},
            "worst": [_plain_case(case) for case in tally.worst],
        }
        if html is not None:
            html.write_bytes(page(report, tally.worst, past.blobs))
    typer.echo(as_json(report) if format is Format.JSON else "\n".join(_lines(report, html)))
    if not tally.frames:
        raise typer.Exit(1)


def _threshold(text: str) -> tuple[str, float]:
    from schemas.errors import ConfigurationError

    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigurationError(f"{text!r} is no threshold", setting="--threshold", do="write it as text_confidence=0.7")
    return name.strip(), number


def _lines(report: Mapping[str, Any], html: Path | None) -> Iterator[str]:
    from processors.whatif.page import rate_in_words

    yield (
        f"{report['frames']} frames of {report['source']} from {report['from']} to {report['to']}, "
        f"models called {report['models_called']} times {report['runner']}, {report['took_s']:.1f} s"
    )
    for problem, count in report["not_read"].items():
        yield f"  {count} not read: {problem}"
    if not report["frames"]:
        yield "no frame could be compared"
        return
    agreement, proofs = report["agreement"], report["proofs"]
    rows = [(f"{unit} that say the same", "", rate_in_words(agreement[unit])) for unit in ("frames", "passages")]
    rows += [
        (f"{unit} that verify", rate_in_words(proofs["recorded"][unit]), rate_in_words(proofs["whatif"][unit]))
        for unit in ("readings", "frames", "passages")
    ]
    yield from table(("", "recorded", "what if"), rows).splitlines()
    yield "readings: " + ", ".join(f"{count} {kind}" for kind, count in report["readings"].items())
    alerts = report["alerts"]
    yield f"alerts: {alerts['gained']} gained, {alerts['lost']} lost, {alerts['both']} on both sides"
    for which in ("gained", "lost"):
        for alert in report["alerts_listed"][which][:_CASES_SHOWN]:
            yield f"  {which}: {alert['kind']} of {alert['subject']}, passage {alert['passage_id']}: {alert['message']}"
    for case in report["worst"][:_CASES_SHOWN]:
        yield f"{case['device_id']} #{case['sequence']}  {case['frame_id']}"
        for change in case["changes"]:
            yield f"  {change['kind']}: {_label(change['recorded'])} -> {_label(change['whatif'])}"
            if change["why"]:
                yield f"    {change['why']}"
        if case["detail"]:
            yield f"  {case['detail']}"
    if html is not None:
        yield f"with pictures: {html}"


def _label(reading: Mapping[str, Any] | None) -> str:
    if reading is None:
        return "nothing"
    proof = {True: " ok", False: " BAD", None: ""}[reading["valid"]]
    return f"{reading['label']}{proof} ({reading['confidence']:.3f})"


def _plain_alert(alert: Any) -> dict[str, Any]:
    return {
        "kind": alert.kind,
        "subject": alert.subject,
        "passage_id": alert.passage_id,
        "frame_id": alert.frame_id,
        "message": alert.message,
    }


def _plain_case(case: "FrameCompared") -> dict[str, Any]:
    from processors.whatif.match import Kind, why_left_out
    from processors.whatif.tally import badness
    from schemas.plain import to_plain

    frame = case.found.event.frame
    candidates = getattr(case.other.inferred, "candidates", ()) if case.other is not None else ()
    assert case.actual is not None, "only frames that were read are cases"
    assert case.other is not None, "only frames that were read are cases"
    return {
        "frame_id": frame.frame_id,
        "device_id": frame.device_id,
        "sequence": frame.sequence,
        "blob": frame.blob.sha256,
        "badness": badness(case),
        "recorded": _plain_side(case.actual),
        "whatif": _plain_side(case.other),
        "detail": case.other.result.detail,
        "changes": [
            {
                "kind": c.kind.value,
                "iou": c.iou,
                "why": why_left_out(c, candidates),
                "recorded": to_plain(c.actual) if c.actual is not None else None,
                "whatif": to_plain(c.other) if c.other is not None else None,
            }
            for c in case.changes
            if c.kind is not Kind.SAME
        ],
    }


def _plain_side(side: "Side") -> dict[str, Any]:
    return {"release": side.result.release, "outcome": side.result.outcome, "events": [type(e).__name__ for e in side.derived]}
