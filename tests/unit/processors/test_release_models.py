"""Models and limits in the release aggregate: what is registered otherwise is refused, and nothing else changes."""

from dataclasses import replace

import pytest

from processors.release.core import INITIAL, decide, fold_all, wrong_values
from schemas.events import ChangeThreshold, CommandRefused, ModelRegistered, RegisterModel, RegisterRelease
from schemas.model_files import digest_of
from schemas.types import BlobRef, EventId, ModelFile, ReleaseStep
from tests.given import cause


def file(path: str, content: str) -> ModelFile:
    return ModelFile(path=path, blob=BlobRef(sha256=content * 32, size_bytes=1, media_type="text/plain"))


def command(version: int, content: str, configuration: str | None) -> RegisterModel:
    files = (file("model.py", content),)
    return RegisterModel(
        command_id=EventId("c"),
        pipeline="yard",
        model="people",
        version=version,
        digest=digest_of(files),
        files=files,
        issued_by="me",
        reason="",
        issued_at_us=1,
        configuration=None if configuration is None else file("config.pbtxt", configuration),
        metrics={"recall": 0.9},
        lineage={"dataset": "yard-2026-10"},
    )


def told(*commands: RegisterModel) -> list[str]:
    """What each command gives, in turn: the event's name, or the refusal."""
    state, found = INITIAL, []
    for offset, one in enumerate(commands):
        (event,) = decide(state, one, cause(offset, "vision.commands"))
        found.append(event.refusal if isinstance(event, CommandRefused) else type(event).__name__)
        state = fold_all((event,), state)
    return found


def test_evidence_is_in_the_event() -> None:
    """Who looks back finds the measures, where it comes from, and the configuration."""
    (event,) = decide(INITIAL, command(1, "a1", "cc"), cause(0, "vision.commands"))
    assert isinstance(event, ModelRegistered)
    assert (event.metrics, event.lineage) == ({"recall": 0.9}, {"dataset": "yard-2026-10"})
    assert event.configuration == file("config.pbtxt", "cc")


def test_all_versions_of_a_name_share_one_configuration() -> None:
    """Another version with the same one is welcome; with another one, or other files, it is refused."""
    assert told(command(1, "a1", "cc"), command(2, "a2", "cc")) == ["ModelRegistered"] * 2
    assert told(command(1, "a1", "cc"), command(2, "a2", "dd")) == ["ModelRegistered", "registered_otherwise"]
    assert told(command(1, "a1", "cc"), command(1, "a1", "dd")) == ["ModelRegistered", "registered_otherwise"]
    assert told(command(1, "a1", "cc"), command(1, "a2", "cc")) == ["ModelRegistered", "registered_otherwise"]
    assert told(command(1, "a1", "cc"), command(1, "a1", "cc")) == ["ModelRegistered", "already_registered"]


def test_a_model_from_before_there_were_configurations_takes_the_first_one() -> None:
    """Old events name none, and hold nobody back."""
    assert told(command(1, "a1", None), command(2, "a2", "cc")) == ["ModelRegistered"] * 2
    assert told(command(1, "a1", None), command(1, "a1", "cc")) == ["ModelRegistered", "already_registered"]


def release(**limits: dict[str, float]) -> RegisterRelease:
    return RegisterRelease(
        command_id=EventId("c"),
        pipeline="yard",
        release="yard_r1",
        steps=(ReleaseStep(step="people", model="people", version=1, digest="ab"),),
        parameters={"speed": 30.0, "score": 0.5},
        issued_by="me",
        reason="",
        issued_at_us=1,
        parameters_least=limits.get("least", {}),
        parameters_most=limits.get("most", {}),
    )


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        (release(least={"speed": 0}, most={"speed": 80}), None),
        (release(), "speed is 30: a threshold must be greater than 0 and less than 1"),
        (release(least={"speed": 40}, most={"speed": 80}), "speed is 30, and must be from 40 to 80"),
        (release(least={"speed": 0}, most={"speed": 80, "spede": 1}), "spede has limits, and is no parameter of yard_r1"),
    ],
)
def test_a_parameter_keeps_to_its_own_limits(asked: RegisterRelease, refusal: str | None) -> None:
    """One without limits is a threshold."""
    (event,) = decide(INITIAL, asked, cause(0, "vision.commands"))
    assert (event.detail if isinstance(event, CommandRefused) else None) == refusal


def test_a_release_with_other_limits_is_another_release() -> None:
    """A release never changes."""
    state = fold_all(decide(INITIAL, release(least={"speed": 0}), cause(0, "vision.commands")), INITIAL)
    again, other = (
        decide(state, one, cause(1, "vision.commands"))[0] for one in (release(least={"speed": 0}), release(least={"speed": 1}))
    )
    assert (again.refusal, other.refusal) == ("already_registered", "registered_otherwise")


def test_a_change_by_hand_keeps_to_the_limits_of_the_release_in_force() -> None:
    """A value that it could not have started with is refused."""
    state = fold_all(decide(INITIAL, release(least={"speed": 0}, most={"speed": 80}), cause(0, "vision.commands")), INITIAL)
    state = replace(state, in_force="yard_r1")
    change = ChangeThreshold(
        command_id=EventId("c"), pipeline="yard", name="speed", value=80.0, issued_by="me", reason="", issued_at_us=1
    )
    (fine,) = decide(state, change, cause(1, "vision.commands"))
    (beyond,) = decide(state, replace(change, value=81.0), cause(1, "vision.commands"))
    assert (type(fine).__name__, beyond.refusal) == ("ThresholdChanged", "bad_value")


def test_what_is_not_finite_is_within_no_limits() -> None:
    """Also where a side has no limit."""
    assert "must be from 0 to inf" in wrong_values({"speed": float("inf")}, least={"speed": 0})
    assert "must be from 0 to inf" in wrong_values({"speed": float("nan")}, least={"speed": 0})
