"""How a frame came to its release: in force, on trial in a canary, or instead of a candidate that could not read it."""

from dataclasses import replace
from typing import Any

from processors.lookback.routing import routing_of
from processors.release import core
from schemas.types import RolloutArm
from tests.given import cause, completed
from tests.unit.export.recorded import Recorded
from tests.unit.processors.test_release_core import loaded, promote
from tests.unit.processors.test_release_rollouts import CANARY, READY, back, shadow, verdict


def log_of(*commands: Any) -> Recorded:
    """What the release processor wrote for these commands."""
    made, state = Recorded(), core.INITIAL
    for offset, command in enumerate(commands):
        for event in core.decide(state, command, cause(offset, "vision.commands")):
            state = core.fold(state, event)
            made.append(event, writer="release")
    return made


def how(release: str, *commands: Any) -> tuple[str, str | None]:
    """The way, and the decision that it names, of a frame that was read after these commands."""
    made = log_of(*commands)
    end = made.log.bounds("vision.releases", 0).end
    found = routing_of(made.past, replace(completed(1, "x", release=release), releases_offset=end))
    return found.how, found.decided.type if found.decided is not None else None


def test_a_frame_of_a_canary_says_so_and_the_others_are_read_by_what_is_in_force() -> None:
    """Also in a later stage, and while a shadow reads beside."""
    assert how("r2", *CANARY) == ("canary", "CanaryStarted")
    assert how("r2", *CANARY, verdict("successful")) == ("canary", "CanaryStarted")
    assert how("r1", *CANARY) == ("promoted", "ReleasePromoted")
    assert how("r1", *READY, shadow()) == ("promoted", "ReleasePromoted")


def test_after_a_trial_it_is_who_was_put_in_force() -> None:
    """A promotion of what was on trial, and a way back."""
    assert how("r2", *CANARY, promote("r2"), loaded("r2")) == ("promoted", "ReleasePromoted")
    assert how("r1", *READY, promote("r2"), loaded("r2"), back(), loaded("r1")) == ("rolled_back", "ReleaseRolledBack")


def test_a_release_on_trial_for_the_second_time_names_the_second() -> None:
    """The first one was ended by its verdict."""
    again = replace(CANARY[-1], command_id="again")
    made = log_of(*CANARY, verdict("failed"), again)
    end = made.log.bounds("vision.releases", 0).end
    arm = RolloutArm(rollout_id="again", kind="canary", stage=0, arm="candidate")
    found = routing_of(made.past, replace(completed(1, "x", release="r2"), releases_offset=end, rollout=arm))
    assert found.decided is not None
    assert found.decided.event.rollout_id == "again"
