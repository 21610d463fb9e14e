"""`hindsight reinfer`: recorded frames read again with the models that were in force, and judged."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption, hold_writable, say_what_is_not_held
from topology.cli.tables import Format, as_json, table

if TYPE_CHECKING:
    from processors.lookback.inferences import Found
    from processors.reinfer.again import FormJudged, Judged
    from processors.reinfer.rates import Rates
    from streams.past import Past

_DIFFERENCES_SHOWN = 8
_FRAMES_SHOWN = 50


def register(app: typer.Typer) -> None:
    app.command(epilog='Example: hindsight reinfer --from "1 hour ago" --to now --device gate-1')(reinfer)


def reinfer(
    frame: Annotated[str | None, typer.Argument(help="A frame's id; or give --from and --to.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="Frames that were read from this moment on.")] = None,
    until: Annotated[str, typer.Option("--to", help="Frames that were read before this moment.")] = "now",
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many frames.")] = 1000,
    threads: Annotated[int | None, typer.Option(min=1, help="Try so many threads, too.")] = None,
    batch_form: Annotated[str | None, typer.Option(help="Try this batch form, too: single or frame.")] = None,
    triton: Annotated[
        bool, typer.Option("--triton", help="Run the models on a private Triton instead of in this process.")
    ] = False,
    metrics: Annotated[Path | None, typer.Option(help="Write the rates here, for Prometheus's textfile collector.")] = None,
    trust_models: Annotated[bool, typer.Option("--trust-models", help="Run the models that the bundle brings.")] = False,
    bundle: BundleOption = None,
    tz: ZoneOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Read frames again with exactly the model files that were in force, and judge: bit-exact, within tolerance, or diverged.

    Where outputs differ, what differs in the fingerprints is named, and what can be varied is varied one at a time to
    prove it. Writes nothing. Ends with 1 when a frame diverged or could not be judged.
    """
    from processors.lookback.releases import ReleaseHistory
    from processors.reinfer.again import Asked, Reinference
    from processors.reinfer.rates import Rates
    from schemas.errors import ConfigurationError
    from topology.cli.progress import Progress
    from topology.configuration import load
    from topology.past import open_past, pipeline_of
    from topology.reading import open_models

    if (frame is None) == (since is None):
        raise ConfigurationError("give a frame's id, or --from and --to", do='such as hindsight reinfer --from "10m ago"')
    if batch_form not in (None, "single", "frame"):
        raise ConfigurationError(f"{batch_form!r} is no batch form", setting="--batch-form", do="give single or frame")
    hold_writable(metrics, "--metrics")
    configuration = load()
    settings = configuration.settings
    with (
        open_past(settings, bundle) as past,
        open_models(
            configuration, past, runner="triton" if triton else "in process", trusted=bundle is None or trust_models
        ) as models,
        Progress("read again") as progress,
    ):
        past.hold(device=device)
        again = Reinference(past, models, ReleaseHistory(past, pipeline_of(settings, past)))
        rates, frames = Rates(models.runner), []
        for found in islice(_chosen(past, frame, since, until, device, tz or settings.timezone), limit):
            judged = again.judge(found, Asked(threads=threads, batch_form=batch_form))
            rates.count(judged)
            frames.append(judged)
            progress.step()
    if metrics is not None:
        metrics.write_text("\n".join(rates.as_metrics()) + "\n")
    _print(rates, frames, past.source, progress.took_s, limit, format)
    if not rates.frames or not rates.all_agree:
        raise typer.Exit(1)


def _chosen(past: "Past", frame: str | None, since: str | None, until: str, device: str | None, zone: str) -> "Iterator[Found]":
    from processors.lookback.inferences import in_window, of_frame
    from schemas.errors import ContractError
    from streams.records import system_clock
    from topology.moments import parse_moment

    if frame is not None:
        found = of_frame(past, frame)
        if found is None:
            raise ContractError(
                f"no model was asked about frame {frame}, as far as {past.source} knows", do="check the frame's id"
            )
        return iter((found,))
    assert since is not None, "checked before"
    now_us = system_clock()
    from_us, to_us = parse_moment(since, zone=zone, now_us=now_us), parse_moment(until, zone=zone, now_us=now_us)
    say_what_is_not_held(past, from_us, to_us)
    return in_window(past, from_us, to_us, device=device)


def _print(rates: "Rates", frames: "list[Judged]", source: str, took_s: float, limit: int, format: Format) -> None:
    from processors.reinfer.compare import TOLERANCES

    if format is Format.JSON:
        typer.echo(
            as_json(
                {
                    "source": source,
                    "took_s": round(took_s, 3),
                    "limit_reached": rates.frames == limit,
                    "tolerances": dict(TOLERANCES),
                    "rates": rates.as_plain(),
                    "frames": [_plain(judged) for judged in frames],
                }
            )
        )
        return
    shown = frames if len(frames) == 1 else [j for j in frames if not _is_exact(j)]
    for judged in shown[:_FRAMES_SHOWN]:
        typer.echo("\n".join(_frame_lines(judged)))
    if len(shown) > _FRAMES_SHOWN:
        typer.echo(f"... and {len(shown) - _FRAMES_SHOWN} more that are not bit-exact; --format json has them all")
    typer.echo("\n".join(_rate_lines(rates, source, took_s, limit)))


def _is_exact(judged: "Judged") -> bool:
    from processors.reinfer.compare import Verdict

    return not judged.problem and all(f.compared is not None and f.compared.verdict is Verdict.BIT_EXACT for f in judged.forms)


def _frame_lines(judged: "Judged") -> Iterator[str]:
    event = judged.found.event
    yield f"frame {event.frame.frame_id}  {event.frame.device_id} #{event.frame.sequence}  {event.release or 'no release'}"
    if judged.problem:
        yield f"  not judged: {judged.problem}"
    for form in judged.forms:
        yield from _form_lines(form)


def _form_lines(form: "FormJudged") -> Iterator[str]:
    ran = f"{form.name} form ({form.form.threads} threads, batch form {form.form.batch_form or 'of the models'})"
    if form.compared is None:
        yield f"  {ran}: cannot be judged: {form.problem}"
        return
    first = form.compared.first_different_step
    yield f"  {ran}: {form.compared.verdict}" + (f", first different in step {first}" if first else "")
    for d in form.compared.differences[:_DIFFERENCES_SHOWN]:
        by = f", by {d.by:.3g} (tolerance {d.tolerance:g})" if d.by is not None else ""
        yield f"    {d.output}: recorded {_short(d.recorded)}, now {_short(d.again)}{by}"
    if (more := len(form.compared.differences) - _DIFFERENCES_SHOWN) > 0:
        yield f"    ... and {more} more outputs"
    for cause in form.causes:
        where = f", beginning with step {cause.step}" if cause.step else ""
        yield f"    cause {cause.name}: recorded {_short(cause.recorded)}, now {_short(cause.present)}; {cause.proof}{where}"
    if first and not form.causes:
        yield "    cause not found: the fingerprints are equal"


def _rate_lines(rates: "Rates", source: str, took_s: float, limit: int) -> Iterator[str]:
    from processors.reinfer.compare import TOLERANCES

    if not rates.frames:
        yield f"no frames were read in this window, as far as {source} knows"
        return
    yield f"{rates.frames} frames of {source} read again {rates.runner} in {took_s:.1f} s"
    if rates.frames == limit:
        yield f"  --limit {limit} was reached; there may be more"
    rows = [(form, verdict, count, f"{count / rates.frames:.1%}") for (form, verdict), count in sorted(rates.verdicts.items())]
    yield from table(("form", "verdict", "frames", "rate"), rows).splitlines()
    steps = [
        (n, r.compared, r.equal, f"{r.equal / r.compared:.1%}" if r.compared else "-") for n, r in sorted(rates.backends.items())
    ]
    if steps:
        yield from table(("backend", "outputs compared", "bit-equal", "rate"), steps).splitlines()
    for (name, proof), count in sorted(rates.causes.items()):
        yield f"cause {name}: {proof} in {count} frames"
    yield "tolerances: " + ", ".join(f"{name} {value:g}" for name, value in TOLERANCES.items())


def _plain(judged: "Judged") -> dict[str, Any]:
    event = judged.found.event
    return {
        "frame_id": event.frame.frame_id,
        "device_id": event.frame.device_id,
        "sequence": event.frame.sequence,
        "release": event.release,
        "position": {"topic": "vision.inferences", "partition": judged.found.partition, "offset": judged.found.offset},
        "problem": judged.problem,
        "forms": [_plain_form(form) for form in judged.forms],
    }


def _plain_form(form: "FormJudged") -> dict[str, Any]:
    from dataclasses import asdict

    compared = form.compared
    return {
        "form": form.name,
        "threads": form.form.threads,
        "batch_form": form.form.batch_form,
        "verdict": compared.verdict if compared is not None else None,
        "problem": form.problem,
        "first_different_step": compared.first_different_step if compared is not None else None,
        "steps": [asdict(s) for s in compared.steps] if compared is not None else [],
        "differences": [asdict(d) for d in compared.differences] if compared is not None else [],
        "causes": [{**asdict(c), "proof": c.proof.name.lower(), "said": c.proof.value} for c in form.causes],
    }


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
