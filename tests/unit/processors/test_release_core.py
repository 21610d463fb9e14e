"""release: a promotion waits for ready; what cannot be done is refused by an event that says why."""

from dataclasses import replace
from typing import Any

import pytest

from processors.release import core
from processors.release.loader import wanted
from schemas import ids
from schemas.events import (
    ChangeThreshold,
    CommandRefused,
    ModelRegistered,
    PromoteRelease,
    PromotionRequested,
    RegisterModel,
    RegisterRelease,
    ReleaseLoaded,
    ReleaseLoadFailed,
    ReleasePromoted,
    ReleaseRegistered,
    ReportReleaseLoaded,
    ReportReleaseLoadFailed,
    ThresholdChanged,
)
from schemas.model_files import digest_of
from schemas.types import BlobRef, EventId, ModelFile, ReleaseStep
from tests.given import AT_US, at, cause

STEP = ReleaseStep(step="detection", model="detection", version=3, digest="ab")


def _asked(**more: Any) -> Any:
    return {"command_id": EventId("c"), "pipeline": "gate", "issued_at_us": AT_US, **more}


def register(release: str, steps: tuple[ReleaseStep, ...] = (STEP,), threshold: float = 0.5) -> RegisterRelease:
    return RegisterRelease(
        **_asked(release=release, steps=steps, parameters={"text_confidence": threshold}, issued_by="me", reason="why")
    )


def model_file(path: str, sha256: str = "ab" * 32) -> ModelFile:
    return ModelFile(path=path, blob=BlobRef(sha256=sha256, size_bytes=3, media_type="text/x-python"))


def register_model(*files: ModelFile, digest: str | None = None) -> RegisterModel:
    digest = digest_of(files) if digest is None else digest
    return RegisterModel(**_asked(model="detection", version=3, digest=digest, files=files, issued_by="me", reason="why"))


def promote(release: str) -> PromoteRelease:
    return PromoteRelease(**_asked(release=release, issued_by="me", reason="why"))


def loaded(release: str, endpoint: str = "one:8001") -> ReportReleaseLoaded:
    return ReportReleaseLoaded(**_asked(release=release, endpoint=endpoint, duration_us=7))


def load_failed(release: str, message: str = "no file") -> ReportReleaseLoadFailed:
    return ReportReleaseLoadFailed(**_asked(release=release, endpoint="one:8001", error_message=message))


def change(name: str, value: float) -> ChangeThreshold:
    return ChangeThreshold(**_asked(name=name, value=value, issued_by="me", reason="why"))


def after(*commands: Any) -> core.PipelineReleases:
    """The state after commands, each decided and folded as the processor does."""
    state = core.INITIAL
    for offset, command in enumerate(commands):
        state = core.fold_all(core.decide(state, command, cause(offset, "vision.commands")), state)
    return state


def decided(given: tuple[Any, ...], command: Any) -> tuple[Any, ...]:
    return core.decide(after(*given), command, cause(9, "vision.commands"))


IN_FORCE = (register("r1"), promote("r1"), loaded("r1"))
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))


def test_a_new_release_is_registered() -> None:
    """Its steps and parameters stand in the event, whose id follows from the command's position."""
    where = cause(9, "vision.commands").position
    assert decided((), register("r1")) == (
        ReleaseRegistered(
            event_id=ids.event_id(where, "ReleaseRegistered"),
            source=where,
            pipeline="gate",
            release="r1",
            steps=(STEP,),
            parameters={"text_confidence": 0.5},
            issued_by="me",
            reason="why",
            registered_at_us=AT_US,
        ),
    )


def test_a_new_model_version_is_registered_and_remembered_by_digest() -> None:
    """Its files stand in the event; the state keeps the digest alone."""
    command = register_model(model_file("model.py"), model_file("steps/run.py"))
    (event,) = decided((), command)
    assert isinstance(event, ModelRegistered)
    assert (event.model, event.version, event.digest, event.files) == ("detection", 3, command.digest, command.files)
    assert after(command).models == {"detection:3": command.digest}


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a\\b", "a\0b", "./a"])
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    """Paths name places on a disk, and come from whoever sends the command."""
    (event,) = decided((), register_model(model_file(path)))
    assert (event.refusal, "no path inside" in event.detail) == ("bad_files", True)


def test_two_files_in_one_place_are_refused() -> None:
    """The same path twice, and a path inside what is itself a file."""
    for files, said in (
        ((model_file("a"), model_file("a", "cd" * 32)), "named twice"),
        ((model_file("a"), model_file("a/b")), "inside what is itself a file"),
    ):
        (event,) = decided((), register_model(*files))
        assert (event.refusal, said in event.detail) == ("bad_files", True)


@pytest.mark.parametrize(
    ("given", "command", "refusal"),
    [
        ((register("r1"),), register("r1"), "already_registered"),
        ((register("r1"),), register("r1", threshold=0.6), "registered_otherwise"),
        ((), register("r1", steps=()), "no_steps"),
        ((register_model(model_file("model.py")),), register_model(model_file("model.py")), "already_registered"),
        ((register_model(model_file("model.py")),), register_model(model_file("other.py")), "registered_otherwise"),
        ((), register_model(model_file("model.py"), digest="cd" * 32), "bad_files"),
        ((), register_model(), "bad_files"),
        ((), promote("r1"), "not_registered"),
        ((), register("r1", threshold=0.0), "bad_value"),
        ((), register("r1", threshold=float("nan")), "bad_value"),
        (IN_FORCE, promote("r1"), "in_force_already"),
        ((register("r1"), register("r2"), promote("r1")), promote("r2"), "another_promotion_waits"),
        ((), change("text_confidence", 0.4), "unknown_parameter"),
        (IN_FORCE, change("other", 0.4), "unknown_parameter"),
        *((IN_FORCE, change("text_confidence", bad), "bad_value") for bad in (0.0, 1.0, -0.1, 7.0, *NOT_FINITE)),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(given: tuple[Any, ...], command: Any, refusal: str) -> None:
    """A refusal is one event with its reason, and the state stays as it was."""
    (event,) = decided(given, command)
    assert isinstance(event, CommandRefused)
    assert (event.refusal, event.command, event.command_id) == (refusal, type(command).__name__, "c")
    assert core.fold(after(*given), event) == after(*given)


def test_a_promotion_waits_for_the_load_and_then_happens_by_itself() -> None:
    """Asked before it is loaded: requested first; the loader's report gives both the load and the promotion, in this order."""
    (requested,) = decided((register("r1"),), promote("r1"))
    assert isinstance(requested, PromotionRequested)
    assert after(register("r1"), promote("r1")).in_force is None
    first, second = decided((register("r1"), promote("r1")), loaded("r1"))
    assert isinstance(first, ReleaseLoaded)
    assert isinstance(second, ReleasePromoted)
    assert second.source == at(first.source, 1)
    assert (second.previous_release, second.issued_by, second.reason) == (None, "me", "why")
    state = after(register("r1"), promote("r1"), loaded("r1"))
    assert (state.in_force, state.pending) == ("r1", None)


def test_a_release_that_was_loaded_waits_too_until_a_server_says_that_it_has_it_now() -> None:
    """A server may have restarted, empty: the old report promotes nothing, and the new one is the promotion alone."""
    given = (*IN_FORCE, register("r2"), loaded("r2"))
    (requested,) = decided(given, promote("r2"))
    assert isinstance(requested, PromotionRequested)
    assert after(*given, promote("r2")).in_force == "r1"
    (event,) = decided((*given, promote("r2")), loaded("r2"))
    assert isinstance(event, ReleasePromoted)
    assert (event.release, event.previous_release, event.source) == ("r2", "r1", cause(9, "vision.commands").position)
    state = after(*given, promote("r2"), loaded("r2"))
    assert (state.in_force, state.previous, state.pending) == ("r2", "r1", None)


def test_a_promotion_that_waits_may_be_asked_for_again() -> None:
    """Asking again is not refused, and one report still gives one promotion."""
    given = (register("r1"), promote("r1"))
    (event,) = decided(given, promote("r1"))
    assert isinstance(event, PromotionRequested)
    assert decided((*given, promote("r1"), loaded("r1")), loaded("r1")) == ()


def test_the_pins_are_those_of_the_release_in_force() -> None:
    """Digests by step; none while nothing is in force."""
    assert after(register("r1"), loaded("r1")).pins() == {}
    assert after(*IN_FORCE, register("r2", steps=(replace(STEP, digest="cd"),))).pins() == {"detection": "ab"}


def test_a_load_of_another_release_does_not_promote_the_waiting_one() -> None:
    """Only the load of the release that was asked for ends the waiting."""
    given = (register("r1"), register("r2"), promote("r1"))
    (event,) = decided(given, loaded("r2"))
    assert isinstance(event, ReleaseLoaded)
    assert after(*given, loaded("r2")).pending is not None


def test_a_failed_load_ends_the_waiting_and_is_told_once() -> None:
    """The promotion that waited is given up; the same failure again is not news, and a later load clears it."""
    given = (register("r1"), promote("r1"))
    (event,) = decided(given, load_failed("r1"))
    assert isinstance(event, ReleaseLoadFailed)
    state = after(*given, load_failed("r1"))
    assert (state.pending, state.in_force, state.releases["r1"].load_error) == (None, None, "no file")
    assert decided((*given, load_failed("r1")), load_failed("r1")) == ()
    assert after(*given, load_failed("r1"), loaded("r1")).releases["r1"].load_error == ""


def test_a_server_that_cannot_load_again_what_it_had_is_not_named_any_more() -> None:
    """It failed after a restart: only the others have the release, and its next load is news again."""
    given = (*IN_FORCE, loaded("r1", "two:8001"), load_failed("r1"))
    entry = after(*given).releases["r1"]
    assert (entry.loaded_on, entry.load_error) == (("two:8001",), "no file")
    (event,) = decided(given, loaded("r1"))
    assert isinstance(event, ReleaseLoaded)
    assert after(*given, loaded("r1")).releases["r1"].loaded_on == ("one:8001", "two:8001")


def test_reports_that_bring_nothing_new_give_nothing() -> None:
    """The same server's report again, and reports of releases that nobody registered."""
    assert decided((register("r1"), loaded("r1")), loaded("r1")) == ()
    assert decided((), loaded("r1")) == ()
    assert decided((), load_failed("r1")) == ()


def test_a_release_that_could_not_be_loaded_is_tried_again_when_somebody_asks() -> None:
    """A new promotion of it waits like the first one, forgets the old error, and so has it loaded again."""
    (event,) = decided((register("r1"), load_failed("r1")), promote("r1"))
    assert isinstance(event, PromotionRequested)
    assert after(register("r1"), load_failed("r1"), promote("r1")).releases["r1"].load_error == ""
    state = after(register("r1"), loaded("r1", "two:8001"), loaded("r1", "one:8001"))
    assert state.releases["r1"].loaded_on == ("one:8001", "two:8001")


def test_a_threshold_changed_by_hand_holds_over_the_releases_own() -> None:
    """The change names the value before it, and outlives the next promotion."""
    (event,) = decided(IN_FORCE, change("text_confidence", 0.7))
    assert isinstance(event, ThresholdChanged)
    assert (event.previous_value, event.value) == (0.5, 0.7)
    state = after(*IN_FORCE, change("text_confidence", 0.7), register("r2", threshold=0.2), promote("r2"), loaded("r2"))
    assert state.in_force == "r2"
    assert state.thresholds() == {"text_confidence": 0.7}


def test_an_event_about_an_unknown_release_stops_nobody() -> None:
    """Anyone may write to the topic: the fold leaves what it cannot place, and thresholds and loader stand it."""
    where = cause(0, "vision.commands")
    state = after(register("r1"))
    event, promoted = core.decide(core.fold_all(core.decide(state, promote("r1"), where), state), loaded("r1"), where)
    assert core.fold(core.INITIAL, event) == core.INITIAL
    lost = core.fold(core.INITIAL, promoted)
    assert (lost.in_force, lost.thresholds(), lost.pins()) == ("r1", {}, {})
    assert wanted(lost, 4) == ()
