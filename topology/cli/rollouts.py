"""`hindsight releases shadow|canary|promote|rollback|abort`: who reads, and who is on trial.

Each is a command that names the state it was made for: if somebody else was quicker, it is refused and changes nothing.
"""

from collections.abc import Callable
from typing import Annotated, Any

import typer

Reason = Annotated[str, typer.Option(help="Why, for the record.")]
_AS_SEEN = -1
Wait = Annotated[float, typer.Option(help="Seconds to wait for the outcome.")]


def register(releases: typer.Typer) -> None:
    releases.command(epilog="Example: hindsight releases shadow gate_reader_r2 --reason 'is it faster?'")(shadow)
    releases.command(epilog="Example: hindsight releases canary gate_reader_r2 --steps 5,25,50")(canary)
    releases.command(epilog="Example: hindsight releases promote gate_reader_r2 --gate whatif:last-24h")(promote)
    releases.command(epilog="Example: hindsight releases rollback --reason 'misreads at night'")(rollback)
    releases.command(epilog="Example: hindsight releases abort --reason 'enough seen'")(abort)


def shadow(name: str, reason: Reason = "", wait: Wait = 30.0) -> None:
    """Let a release read beside the one in force. What it reads never reaches results; how it differs is measured."""
    from schemas.events import ShadowStarted, StartShadow

    event = _settled(StartShadow, _starts(ShadowStarted), wait, release=name, reason=reason)
    typer.echo(f"{name} reads beside from now on; `hindsight releases show {name}` tells how it does")
    assert event.release == name, "a command is settled by its own event"


def canary(
    name: str,
    percent: Annotated[
        float | None, typer.Option(help="Share of the units that it reads, more than 0 and less than 100.")
    ] = None,
    steps: Annotated[str | None, typer.Option(help="Shares to go through while all goes well, such as 5,25,50.")] = None,
    unit: Annotated[str, typer.Option(help="What is assigned as a whole: passage, or device.")] = "passage",
    reason: Reason = "",
    wait: Wait = 30.0,
) -> None:
    """Let a release read a share of the frames.

    One passage is read by one release. Each share is judged; a success leads to the next one, a failure ends the canary by
    itself, and frames that the release cannot read are read by the one in force.
    """
    from schemas.events import CanaryStarted, StartCanary

    shares = _shares(percent, steps)
    event = _settled(StartCanary, _starts(CanaryStarted), wait, release=name, reason=reason, steps_percent=shares, unit=unit)
    on = ", then ".join(f"{share:g} %" for share in shares)
    typer.echo(f"{name} reads {on} of the {event.unit}s; `hindsight releases show {name}` tells how it does")


def promote(
    name: str,
    gate: Annotated[
        str | None, typer.Option(help="Read a past window with it first, and refuse by what is found: whatif:last-24h.")
    ] = None,
    gate_limit: Annotated[list[str] | None, typer.Option(help="Another limit for the gate, such as frames_least=100.")] = None,
    despite_verdict: Annotated[
        bool, typer.Option("--despite-verdict", help="Also when the last verdict on it is failed.")
    ] = False,
    reason: Reason = "",
    wait: Wait = 120.0,
) -> None:
    """Put a release in force. Waits until an inference server has it; frames are read by it from then on."""
    from schemas.errors import ContractError
    from schemas.events import PromoteRelease, ReleasePromoted, RolloutEnded
    from topology import gates
    from topology.configuration import load

    limits = gates.limits_of(gate_limit or ())
    configuration, found, revision = load(), None, _revision()
    if gate is not None:
        found = gates.asked(configuration, name, gate, limits, say=typer.echo)
    event = _settled(
        PromoteRelease,
        lambda command: (
            lambda e: (
                (
                    e.release == name
                    if isinstance(e, ReleasePromoted)
                    else isinstance(e, RolloutEnded) and (e.release, e.outcome) == (name, "rolled_back")
                )
                or _will_not_be(e, name)
            )
        ),
        wait,
        revision=revision,
        release=name,
        reason=reason,
        gate=found,
        despite_verdict=despite_verdict,
    )
    _hold_promoted(event, "mend the model and register it as a new release")
    if isinstance(event, RolloutEnded):
        do = f"`hindsight releases show {name}` has the numbers; --despite-verdict passes them over"
        raise ContractError(f"{name} was not promoted: {event.reason}", do=do)
    typer.echo(f"{name} is in force; before it: {event.previous_release or 'none'}")


def rollback(
    to: Annotated[str | None, typer.Option(help="Which release; the one that read before when not given.")] = None,
    reason: Reason = "",
    wait: Wait = 120.0,
) -> None:
    """Put the release that read before in force again. Ends a shadow or a canary, and any promotion that waits."""
    from processors.release.core import release_before
    from schemas.events import ReleaseRolledBack, RollBackRelease
    from topology import commands
    from topology.configuration import load

    # Named, and not held to a revision: what is urgent is not refused for another decision, and two who ask go back once.
    target = to or release_before(commands.releases_now(load().settings))
    event = _settled(
        RollBackRelease,
        lambda command: lambda e: isinstance(e, ReleaseRolledBack) or _will_not_be(e, target),
        wait,
        release=target,
        reason=reason,
        revision=None,
    )
    _hold_promoted(event, "roll back to another release with --to, or mend this one")
    typer.echo(f"{event.release} is in force again; before it: {event.previous_release}")


def abort(reason: Reason = "", wait: Wait = 30.0) -> None:
    """End the running shadow or canary, and a promotion that waits. The release in force reads everything from then on."""
    from schemas.events import AbortRollout, PromotionEnded, RolloutEnded
    from topology import commands
    from topology.configuration import load

    state = commands.releases_now(load().settings)
    last = PromotionEnded if state.pending is not None else RolloutEnded
    _settled(AbortRollout, lambda command: lambda e: isinstance(e, last), wait, reason=reason, revision=state.revision)
    if state.rollout is not None:
        typer.echo(f"the {state.rollout.kind} of {state.rollout.release} is over")
    if state.pending is not None:
        typer.echo(f"the promotion of {state.pending.release} is called off")
    typer.echo(f"{state.in_force or 'no release'} is in force")


def _shares(percent: float | None, steps: str | None) -> tuple[float, ...]:
    """The canary's shares.

    Raises:
        ConfigurationError: both or neither were given, or one is no share.
    """
    from processors.release.rollouts import wrong_steps
    from schemas.errors import ConfigurationError

    if (percent is None) == (steps is None):
        raise ConfigurationError("a canary needs its share", do="give --percent 10, or --steps 5,25,50")
    try:
        shares = (percent,) if percent is not None else tuple(float(part) for part in (steps or "").split(","))
    except ValueError as error:
        raise ConfigurationError(f"{steps!r} is no list of shares", setting="--steps", do="write it as 5,25,50") from error
    if wrong := wrong_steps(shares):
        raise ConfigurationError(wrong, setting="--percent" if percent is not None else "--steps", do="write it as 5,25,50")
    return shares


Settles = Callable[[Any], Callable[[Any], bool]]


def _starts(kind: type) -> Settles:
    """What a trial's command is settled by: the event that bears its id."""
    return lambda command: lambda e: isinstance(e, kind) and getattr(e, "rollout_id", "") == command.command_id


def _revision() -> int:
    """Revision of the releases as this command sees them."""
    from topology import commands
    from topology.configuration import load

    return commands.releases_now(load().settings).revision


def _settled(kind: Any, settles: Settles, wait_s: float, *, revision: int | None = _AS_SEEN, **fields: Any) -> Any:
    """Send a command made for the state of now, and give the event that settles it."""
    from streams.records import system_clock
    from topology import commands
    from topology.configuration import load

    settings = load().settings
    command = kind(
        command_id=commands.new_command_id(),
        pipeline=settings.pipeline.name,
        issued_by=commands.who(),
        issued_at_us=system_clock(),
        expected_revision=_revision() if revision == _AS_SEEN else revision,
        **fields,
    )
    return commands.send(settings, command, until=settles(command), timeout_s=wait_s)


def _will_not_be(event: Any, release: str | None) -> bool:
    """Whether a promotion that waits for this release is over without it. A server that fails while others may not is told."""
    from schemas.events import PromotionEnded, ReleaseLoadFailed

    if not isinstance(event, (PromotionEnded, ReleaseLoadFailed)) or release not in (None, event.release):
        return False
    if isinstance(event, PromotionEnded) or event.gives_up:
        return True
    typer.echo(f"{event.endpoint} could not load it, others may yet: {event.error_message}", err=True)
    return False


def _hold_promoted(event: Any, do: str) -> None:
    from schemas.errors import ContractError
    from schemas.events import PromotionEnded, ReleaseLoadFailed

    if isinstance(event, ReleaseLoadFailed):
        raise ContractError(f"{event.release} could not be loaded on {event.endpoint}: {event.error_message}", do=do)
    if isinstance(event, PromotionEnded):
        why = f": {event.reason}" if event.reason else ""
        raise ContractError(f"{event.release} was not put in force, {event.issued_by} called it off{why}", do="ask them")
