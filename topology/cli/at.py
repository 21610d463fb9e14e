"""`hindsight at`: what the system knew at a moment, what was true then, and what changed between two moments."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption, chosen_views
from topology.cli.tables import Format, as_json

if TYPE_CHECKING:
    from processors.lookback.difference import Difference
    from processors.snapshots.reading import Snapshots
    from processors.views.catalogue import View
    from streams.past import Past
    from topology.settings import Settings

_DEVICE_VIEWS = ("device_frames", "device_results", "device_features", "alerts", "releases")
_AROUND_MOST_S = 366 * 86_400


def register(app: typer.Typer) -> None:
    app.command(epilog='Example: hindsight at "last tue 03:47" --device gate-1 --tz Europe/Berlin')(at)


def at(
    moment: Annotated[
        str | None, typer.Argument(help='RFC 3339, "2026-11-22 03:47", "last tue 03:47", "10m ago"; not with --diff.')
    ] = None,
    device: Annotated[str | None, typer.Option(help="The device.")] = None,
    view: Annotated[str | None, typer.Option(help="A view, for any key of it: see `hindsight views check`.")] = None,
    key: Annotated[str | None, typer.Option(help="The view's key: a device, a frame, a pipeline.")] = None,
    as_true: Annotated[
        bool, typer.Option("--as-true", help="What was true then, by what is known now, and not what was known then.")
    ] = False,
    diff: Annotated[
        tuple[str, str] | None, typer.Option("--diff", metavar="T1 T2", help="What changed between two moments.")
    ] = None,
    tz: ZoneOption = None,
    around: Annotated[
        float, typer.Option(min=0, max=_AROUND_MOST_S, help="Seconds of events to show on each side of the moment.")
    ] = 10.0,
    snapshots: Annotated[bool, typer.Option(help="Begin at the nearest snapshot, and not at the start of the log.")] = True,
    bundle: BundleOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show the state at a moment: of a device (last frame, last result, release in force, alerts), or of any view's key.

    What was known at the moment goes by the broker's clock; what was true then (--as-true) goes by the time of capture, and
    counts what arrived later. Ends with 1 when nothing was known, or nothing changed.
    """
    from streams.records import system_clock
    from topology.configuration import load
    from topology.moments import past_moment

    settings = load().settings
    zone, now_us = tz or settings.timezone, system_clock()
    asked = _Asked(
        device=device,
        view=view,
        key=key,
        as_true=as_true,
        around_s=around,
        moments=tuple(past_moment(m, zone=zone, now_us=now_us) for m in _moments(moment, diff, as_true)),
        zone=zone,
        format=format,
    )
    with _opened(settings, bundle, with_snapshots=snapshots) as (past, found):
        lines, plain, is_something = _answer(asked, settings, past, found)
    typer.echo(as_json(plain) if format is Format.JSON else "\n".join(lines))
    if not is_something:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The question: one moment, or two for what changed."""

    device: str | None
    view: str | None
    key: str | None
    as_true: bool
    around_s: float
    moments: tuple[int, ...]
    zone: str
    format: Format


_Answered = tuple[list[str], Any, bool]


def _moments(moment: str | None, diff: tuple[str, str] | None, as_true: bool) -> tuple[str, ...]:
    if diff is not None and (moment is not None or as_true):
        raise typer.BadParameter("--diff names both moments, and compares what was known", param_hint="--diff")
    if diff is None and moment is None:
        raise typer.BadParameter("name a moment, or two with --diff", param_hint="MOMENT")
    return diff if diff is not None else (moment or "",)


@contextmanager
def _opened(settings: "Settings", bundle: Path | None, *, with_snapshots: bool) -> "Iterator[tuple[Past, Snapshots | None]]":
    from processors.snapshots.reading import Snapshots
    from topology.past import open_past

    with open_past(settings, bundle) as past:
        worth = settings.snapshots.used_from_events
        yield past, Snapshots(past.log, past.schemas, past.blobs, worth=worth) if with_snapshots else None


def _answer(asked: _Asked, settings: "Settings", past: "Past", snapshots: "Snapshots | None") -> _Answered:
    if (asked.device is None) == (asked.view is None):
        raise typer.BadParameter("name a device, or a view with a key", param_hint="--device or --view")
    for at_us in asked.moments:
        past.hold(at_us=at_us, device=asked.device if asked.device is not None else _device_of(asked, past))
    if len(asked.moments) == 2:
        return _difference(asked, settings, past, snapshots)
    if asked.device is not None:
        return _device(asked, settings, past, snapshots)
    return _key(asked, settings, past, snapshots)


def _device(asked: _Asked, settings: "Settings", past: "Past", snapshots: "Snapshots | None") -> _Answered:
    from processors.lookback.at import device_at
    from processors.lookback.gone import erased_by
    from schemas.plain import to_plain
    from topology.cli.at_lines import device_lines
    from topology.past import pipeline_of

    assert asked.device is not None, "asked of a device"
    found = device_at(
        past.log,
        past.schemas,
        device_id=asked.device,
        pipeline=pipeline_of(settings, past),
        at_us=asked.moments[0],
        around_s=asked.around_s,
        snapshots=snapshots,
        as_true=asked.as_true,
        scope=past.scope,
        progress=_progress(),
    )
    is_known = found.frames.last_frame is not None or found.frames.last_rejected is not None
    erased = erased_by(past, found.frames.last_frame)
    plain = {"source": past.source, **to_plain(found), "last_frame_erased": erased}
    return device_lines(found, asked.zone, erased), plain, is_known


def _key(asked: _Asked, settings: "Settings", past: "Past", snapshots: "Snapshots | None") -> _Answered:
    from processors.lookback.at import AS_KNOWN, AS_TRUE
    from processors.lookback.known import known_at
    from processors.lookback.true import true_at
    from schemas.plain import to_plain
    from topology.cli.at_lines import key_lines

    view, key, (at_us,) = _view(asked), _keyed(asked, settings, past), asked.moments
    found: Any
    if asked.as_true:
        found = true_at(past.log, past.schemas, view, key, at_us, snapshots=snapshots, progress=_progress())
    else:
        found = known_at(past.log, past.schemas, view, key, at_us, snapshots=snapshots)
    plain = {
        "source": past.source,
        "view": view.name,
        "key": key,
        "at_us": at_us,
        "answers": AS_TRUE if asked.as_true else AS_KNOWN,
        "is_known": found.state != view.initial,
        "state": to_plain(found.state),
        "read_up_to": to_plain(found.read_up_to),
        "snapshot": None if found.snapshot is None else to_plain(found.snapshot),
        "notes": [*found.notes, *_left_out(view, past)],
    }
    if asked.as_true:
        plain |= {"late": [to_plain(one) for one in found.late], "late_count": found.late_count}
    return key_lines(plain, found, asked.zone), plain, bool(plain["is_known"])


def _left_out(view: "View[Any]", past: "Past") -> list[str]:
    """What is to be said where the key does not tell whether the bundle holds all of it."""
    if past.scope is None or past.scope.devices is None or view.by_record_key:
        return []
    return [f"frames of other devices than {', '.join(past.scope.devices)} are not in it"]


def _difference(asked: _Asked, settings: "Settings", past: "Past", snapshots: "Snapshots | None") -> _Answered:
    from processors.lookback.difference import difference
    from processors.views.catalogue import VIEWS
    from schemas.plain import to_plain
    from topology.cli.at_lines import difference_lines
    from topology.past import pipeline_of

    if asked.device is not None:
        pairs = [(VIEWS[name], pipeline_of(settings, past) if name == "releases" else asked.device) for name in _DEVICE_VIEWS]
    else:
        pairs = [(_view(asked), _keyed(asked, settings, past))]
    found: list[Difference] = [
        difference(past.log, past.schemas, view, key, *asked.moments, snapshots=snapshots) for view, key in pairs
    ]
    plain = {"source": past.source, "differences": [to_plain(one) for one in found]}
    return difference_lines(found, asked.zone), plain, any(one.changed for one in found)


def _device_of(asked: _Asked, past: "Past") -> str | None:
    """The device whose events a view's key needs, as far as the key tells; of a pipeline a bundle holds all in any case."""
    is_of_device = asked.view in _DEVICE_VIEWS and asked.view != "releases"
    is_of_pipeline = past.scope is not None and asked.key == past.scope.pipeline
    return asked.key if is_of_device and not is_of_pipeline else None


def _view(asked: _Asked) -> "View[Any]":
    assert asked.view is not None, "asked of a view"
    return chosen_views([asked.view])[0]


def _keyed(asked: _Asked, settings: "Settings", past: "Past") -> str:
    from topology.past import pipeline_of

    if asked.key is not None:
        return asked.key
    if asked.view == "releases":
        return pipeline_of(settings, past)
    raise typer.BadParameter("name the view's key", param_hint="--key")


def _progress() -> Callable[[int, int], None]:
    """Says on stderr how far a long reading is."""
    import time

    last = [time.monotonic()]

    def say(done: int, of: int) -> None:
        if of and time.monotonic() - last[0] > 2:
            last[0] = time.monotonic()
            typer.echo(f"read {done} of {of} records", err=True)

    return say
