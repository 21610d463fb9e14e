"""reinfer: every planted difference is found, by how much, and judged by its tolerance."""

from dataclasses import replace
from typing import Any

import pytest

from processors.reinfer.compare import TOLERANCES, Verdict, compare
from schemas.events import InferenceCompleted
from schemas.types import Candidate, StepReport
from tests.given import completed

CANDIDATE = Candidate(
    stage="detection", reason="low", kind="text", label="", confidence=0.0, detection_score=0.4, polygon_px=(0, 0, 1, 0, 1, 1)
)


def step(name: str, output: str | None, digest: str = "d") -> StepReport:
    return StepReport(step=name, model=name, version=1, variant="python_cpu", digest=digest, duration_us=3, output_sha256=output)


def recorded() -> InferenceCompleted:
    event = completed(0, "ABC", "DEF")
    first = replace(event.observations[0], measures={"orientation_deg": 0.0, "crop_width_px": 120.0})
    return replace(
        event,
        observations=(first, event.observations[1]),
        candidates=(CANDIDATE,),
        steps=(step("preprocess", "1"), step("detect", "2"), step("read", "3")),
    )


def changed(**more: Any) -> InferenceCompleted:
    """The record with its first observation changed."""
    event = recorded()
    return replace(event, observations=(replace(event.observations[0], **more), event.observations[1]))


def test_the_same_answer_is_bit_exact() -> None:
    """Times and places of the run do not count."""
    again = replace(
        recorded(), endpoint="elsewhere", duration_us=9, steps=tuple(replace(s, duration_us=8) for s in recorded().steps)
    )
    found = compare(recorded(), again)
    assert (found.verdict, found.differences, found.first_different_step) == (Verdict.BIT_EXACT, (), None)


@pytest.mark.parametrize(
    ("more", "output", "by", "tolerance"),
    [
        ({"confidence": 0.9 + 1e-6}, "observations[0].confidence", 1e-6, "confidence"),
        ({"detection_score": 0.9 - 5e-4}, "observations[0].detection_score", 5e-4, "detection_score"),
        ({"polygon_px": (0.25, 0, 30, 0, 30, 20, 0, 20)}, "observations[0].polygon_px", 0.25, "polygon_px"),
        (
            {"measures": {"orientation_deg": 0.0, "crop_width_px": 121.0}},
            "observations[0].measures.crop_width_px",
            1.0,
            "measures.*_px",
        ),
    ],
)
def test_a_small_difference_of_a_number_is_within_tolerance(more: Any, output: str, by: float, tolerance: str) -> None:
    """It is named, with how much and how much is allowed."""
    found = compare(recorded(), changed(**more))
    assert found.verdict is Verdict.WITHIN_TOLERANCE
    (one,) = found.differences
    assert (one.output, one.tolerance) == (output, TOLERANCES[tolerance])
    assert one.by == pytest.approx(by)


@pytest.mark.parametrize(
    ("more", "output"),
    [
        ({"label": "ABD"}, "observations[0].label"),
        ({"kind": "face"}, "observations[0].kind"),
        ({"confidence": 0.9 + 2e-3}, "observations[0].confidence"),
        ({"polygon_px": (1, 0, 30, 0, 30, 20, 0, 20)}, "observations[0].polygon_px"),
        ({"polygon_px": (0, 0, 30, 0, 30, 20)}, "observations[0].polygon_px"),
        ({"measures": {"orientation_deg": 180.0, "crop_width_px": 120.0}}, "observations[0].measures.orientation_deg"),
        ({"measures": {"crop_width_px": 120.0}}, "observations[0].measures.orientation_deg"),
    ],
)
def test_another_text_or_a_number_beyond_its_tolerance_has_diverged(more: Any, output: str) -> None:
    """What is no number has no tolerance."""
    found = compare(recorded(), changed(**more))
    assert found.verdict is Verdict.DIVERGED
    assert [d.output for d in found.differences] == [output]


def test_an_answer_with_more_or_fewer_things_has_diverged() -> None:
    """Counts of observations and candidates, and why a candidate was left out."""
    event = recorded()
    for again, output in (
        (replace(event, observations=event.observations[:1]), "observations"),
        (replace(event, candidates=()), "candidates"),
        (replace(event, candidates=(replace(CANDIDATE, reason="high"),)), "candidates[0].reason"),
        (replace(event, width_px=33), "width_px"),
    ):
        found = compare(event, again)
        assert (found.verdict, [d.output for d in found.differences]) == (Verdict.DIVERGED, [output])


def test_equal_numbers_with_other_bits_inside_are_within_tolerance_and_the_first_step_is_named() -> None:
    """A step's own outputs may differ where nothing of it is seen in the answer."""
    event = recorded()
    again = replace(event, steps=(step("preprocess", "1"), step("detect", "other"), step("read", "another")))
    found = compare(event, again)
    assert (found.verdict, found.differences, found.first_different_step) == (Verdict.WITHIN_TOLERANCE, (), "detect")


def test_a_step_that_did_not_report_is_not_compared() -> None:
    """Neither equal nor different, on whichever side it is silent."""
    event = recorded()
    again = replace(event, steps=(step("preprocess", None), step("read", "3"), step("late", "4")))
    found = compare(event, again)
    assert [(s.step, s.equal) for s in found.steps] == [("preprocess", None), ("detect", None), ("read", True), ("late", None)]
    assert found.verdict is Verdict.BIT_EXACT
