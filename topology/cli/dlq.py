"""`hindsight dlq`: what could not be used, why, and what to do about it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topology.cli.options import BundleOption, FormatOption, ZoneOption, hold_writable
from topology.cli.tables import Format, as_json

if TYPE_CHECKING:
    from processors.lookback.cases import Case, Wanted
    from streams.past import Past

ClassOption = Annotated[str, typer.Option("--error-class", help="Only letters of this error class, such as DecodeError.")]
DeviceOption = Annotated[str, typer.Option("--device", help="Only letters of this device.")]
ProcessorOption = Annotated[str, typer.Option("--processor", help="Only what this processor kept aside.")]
FromOption = Annotated[str | None, typer.Option("--from", help="Only what was kept aside from this moment on.")]
ToOption = Annotated[str | None, typer.Option("--to", help="Only what was kept aside up to this moment.")]
OffsetOption = Annotated[list[int] | None, typer.Option("--offset", help="This letter; may be given again for others.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
WaitOption = Annotated[float, typer.Option("--wait", help="Seconds to wait until it is done.")]


def register(app: typer.Typer) -> None:
    noun = typer.Typer(help="Records that could not be used: list, show, redrive, discard.", no_args_is_help=True)
    noun.command("list", epilog="Example: hindsight dlq list --device gate-1 --from '1 hour ago'")(list_)
    noun.command(epilog="Example: hindsight dlq show 17 --save record.bin")(show)
    noun.command(epilog="Example: hindsight dlq redrive --processor infer --from '1 hour ago' --reason 'model mended'")(redrive)
    noun.command(epilog="Example: hindsight dlq discard --offset 17 --reason 'a test of the line'")(discard)
    app.add_typer(noun, name="dlq")


def list_(
    error_class: ClassOption = "",
    device: DeviceOption = "",
    processor: ProcessorOption = "",
    from_: FromOption = None,
    to: ToOption = None,
    state: Annotated[str, typer.Option("--state", help="open: nothing was done yet. all: every letter.")] = "open",
    tz: ZoneOption = None,
    bundle: BundleOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """List dead letters, oldest first, and how many there are of each kind."""
    from processors.lookback.cases import Wanted, cases
    from schemas.errors import ConfigurationError
    from topology.cli.dlq_lines import list_lines, row
    from topology.configuration import load
    from topology.past import open_past

    if state not in ("open", "all"):
        raise ConfigurationError(f"there is no state {state}", setting="--state", do="choose from open, all")
    settings = load().settings
    zone = tz or settings.timezone
    wanted = _wanted(error_class, device, processor, from_, to, zone)
    with open_past(settings, bundle) as past:
        found = [case for case in cases(past, wanted) if state == "all" or case.is_open]
        others = 0 if found else sum(case.is_open for case in cases(past, Wanted()))
    if format is Format.JSON:
        typer.echo(as_json([row(case, zone) for case in found]))
        return
    typer.echo("\n".join(list_lines(found, zone, state, others)))


def show(
    offset: Annotated[int, typer.Argument(help="The letter, as `hindsight dlq list` numbers it.")],
    save: Annotated[Path | None, typer.Option("--save", help="Write the record's value to this file, untouched.")] = None,
    tz: ZoneOption = None,
    bundle: BundleOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show one letter: its record, what was wrong, what followed, what was done, and what to do next."""
    from processors.lookback.cases import case_at
    from schemas.errors import ContractError
    from topology.cli.dlq_lines import show_lines, shown
    from topology.configuration import load
    from topology.past import open_past

    hold_writable(save, "--save")
    settings = load().settings
    with open_past(settings, bundle) as past:
        case = case_at(past, offset)
        if case is None:
            raise ContractError(
                f"{past.source} holds no letter {offset}", do="`hindsight dlq list --state all` lists those there are"
            )
        told = shown(past, case, tz or settings.timezone, attempts_max=settings.worker.redrives)
    if save is not None:
        if case.letter.value is None:
            raise ContractError(f"letter {offset} holds no value", do=f"look at {case.letter.of or 'its headers'} instead")
        save.write_bytes(case.letter.value)
    typer.echo(as_json(told) if format is Format.JSON else "\n".join(show_lines(told)))


def redrive(
    reason: ReasonOption,
    offset: OffsetOption = None,
    error_class: ClassOption = "",
    device: DeviceOption = "",
    processor: ProcessorOption = "",
    from_: FromOption = None,
    to: ToOption = None,
    beyond_limit: Annotated[
        bool, typer.Option("--beyond-limit", help="Once more, though its record failed so often; for one --offset only.")
    ] = False,
    dry_run: DryOption = False,
    yes: YesOption = False,
    wait: WaitOption = 120.0,
    tz: ZoneOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Put the records of letters onto their topics again, in their order, for the processor that could not use them.

    Takes the letters that are there now. Ends with 1 when one is refused.
    """
    from schemas.errors import ConfigurationError

    if beyond_limit and len(offset or ()) != 1:
        raise ConfigurationError("--beyond-limit is for one letter", setting="--beyond-limit", do="name it with one --offset")
    asked = _Asked("redrive", reason, tuple(offset or ()), beyond_limit, dry_run, yes, wait, format)
    _carry_out(asked, (error_class, device, processor, from_, to), tz)


def discard(
    reason: ReasonOption,
    offset: OffsetOption = None,
    error_class: ClassOption = "",
    device: DeviceOption = "",
    processor: ProcessorOption = "",
    from_: FromOption = None,
    to: ToOption = None,
    dry_run: DryOption = False,
    yes: YesOption = False,
    wait: WaitOption = 120.0,
    tz: ZoneOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Say that letters are done with. Nothing is removed; they are no longer listed as open. Ends with 1 when one is refused."""
    asked = _Asked("discard", reason, tuple(offset or ()), False, dry_run, yes, wait, format)
    _carry_out(asked, (error_class, device, processor, from_, to), tz)


class _Asked:
    """What was asked of letters."""

    def __init__(
        self,
        verb: str,
        reason: str,
        offsets: tuple[int, ...],
        beyond: bool,
        dry_run: bool,
        yes: bool,
        wait_s: float,
        format: Format,
    ) -> None:
        self.verb, self.reason, self.offsets, self.beyond_limit = verb, reason, offsets, beyond
        self.dry_run, self.yes, self.wait_s, self.format = dry_run, yes, wait_s, format


def _carry_out(asked: _Asked, filters: tuple[str, str, str, str | None, str | None], tz: str | None) -> None:
    from schemas.errors import ConfigurationError
    from topology.cli.dlq_lines import plan_lines, settled_lines, settled_rows
    from topology.configuration import load
    from topology.letters import Interrupted, send
    from topology.past import open_past

    if not asked.reason.strip():
        raise ConfigurationError("no reason was given", setting="--reason", do="say why in a few words; the log keeps it")
    if bool(asked.offsets) == any(filters):
        raise ConfigurationError(
            f"say which letters to {asked.verb}: by --offset, or by --error-class, --device, --processor, --from, --to",
            setting="--offset",
            do="`hindsight dlq list` lists the open ones",
        )
    settings = load().settings
    zone = tz or settings.timezone
    with open_past(settings, None) as past:
        chosen, left = _chosen(past, asked, _wanted(*filters, zone), settings.worker.redrives)
    if asked.format is Format.TABLE:
        typer.echo("\n".join(plan_lines(asked.verb, chosen, left, zone, dry_run=asked.dry_run)))
    if asked.dry_run or not chosen:
        if asked.format is Format.JSON:
            typer.echo(
                as_json({"letters": [c.letter.offset for c in chosen], "left_out": [[c.letter.offset, why] for c, why in left]})
            )
        return
    if not asked.yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("nobody can be asked here", setting="--yes", do="add --yes to do it without being asked")
        typer.confirm(f"{asked.verb} {len(chosen)} letters?", abort=True)
    offsets = tuple(case.letter.offset for case in chosen)
    late: Interrupted | None = None
    try:
        events = send(settings, asked.verb, offsets, reason=asked.reason, beyond_limit=asked.beyond_limit, wait_s=asked.wait_s)
    except Interrupted as error:
        events, late = error.settled, error
    refused = sum(type(e).__name__ == "LetterRefused" for e in events)
    typer.echo(as_json(settled_rows(events)) if asked.format is Format.JSON else "\n".join(settled_lines(events)))
    if late is not None:
        raise late
    if refused:
        raise typer.Exit(1)


def _chosen(past: "Past", asked: _Asked, wanted: "Wanted", attempts_max: int) -> "tuple[list[Case], list[tuple[Case, str]]]":
    """The letters to name, and those that the filters mean and that cannot be redriven, each with why."""
    from processors.lookback.cases import case_at, cases, refusals
    from schemas.errors import ContractError

    if asked.offsets:
        named = [(number, case_at(past, number)) for number in dict.fromkeys(asked.offsets)]
        missing = [str(number) for number, case in named if case is None]
        if missing:
            raise ContractError(
                f"there is no letter {', '.join(missing)}", do="`hindsight dlq list --state all` lists those there are"
            )
        return [case for _, case in named if case is not None], []
    found = [case for case in cases(past, wanted) if case.is_open]
    if asked.verb == "discard":
        return found, []
    why = refusals(past, found, attempts_max=attempts_max)
    left = [(c, f"{why[c.letter.offset].refusal}: {why[c.letter.offset].detail}") for c in found if c.letter.offset in why]
    return [c for c in found if c.letter.offset not in why], left


def _wanted(error_class: str, device: str, processor: str, from_: str | None, to: str | None, zone: str) -> "Wanted":
    from processors.lookback.cases import Wanted
    from processors.views.catalogue import VIEWS
    from schemas.errors import ConfigurationError
    from streams.records import system_clock
    from topology.moments import parse_moment
    from topology.processing import PROCESSORS

    if processor and processor not in (known := (*PROCESSORS, *VIEWS)):
        raise ConfigurationError(
            f"there is no processor {processor}", setting="--processor", do=f"choose from {', '.join(known)}"
        )
    now_us = system_clock()
    from_us = None if from_ is None else parse_moment(from_, zone=zone, now_us=now_us)
    to_us = None if to is None else parse_moment(to, zone=zone, now_us=now_us)
    if from_us is not None and to_us is not None and to_us < from_us:
        raise ConfigurationError("the window ends before it begins", setting="--to", do="name a later moment with --to")
    return Wanted(error_class=error_class, device=device, processor=processor, from_us=from_us, to_us=to_us)
