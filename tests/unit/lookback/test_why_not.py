"""Why nothing: each reason is planted by the real steps, and must be found, with its evidence, as the verdict."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from processors.lookback.likeness import likeness
from processors.lookback.why_not import REASONS, WhyNot, why_not
from processors.rules import container_codes
from schemas.catalogue import ASSESSMENTS, FRAMES, INFERENCES, RELEASES, RESULTS
from schemas.errors import ContractError
from streams.partitioning import partition_of
from streams.past import Scope
from streams.records import Outgoing
from tests.gate import PIPELINE, SECOND, Gate
from tests.unit.lookback.test_explain import Trimmed

CODE, OTHER = "MSCU1234566", "CSQU3054383"


def asked(gate: Gate, *, at_us: int | None = None, around_s: float = 30.0, expect: str | None = None) -> WhyNot:
    return why_not(
        gate.past,
        device="gate-1",
        at_us=gate.now_us if at_us is None else at_us,
        pipeline=PIPELINE,
        around_s=around_s,
        expected=expect,
        rules=container_codes,
        moment=str,
    )


def gate_in_force(**parameters: float) -> Gate:
    made = Gate()
    made.put_in_force("r1", **parameters)
    return made


def reasons(found: WhyNot) -> list[str]:
    return [f.reason for f in found.findings if f.explains]


def verdict(found: WhyNot) -> str:
    """The reason of the verdict; it has evidence, and is told in its words."""
    assert found.explained
    first = found.findings[0]
    assert found.verdict == first.says
    assert first.evidence, f"{first.reason} has no evidence"
    return first.reason


def below_threshold() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.threshold(0.5, by="mr")
    gate.capture((CODE, 0.31))
    gate.process()
    return asked(gate, expect=CODE), f"frame #0 read it with 0.31, below text_confidence=0.5 set by mr at {gate.now_us - SECOND}"


def a_near_candidate() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE[:-1] + "8", 0.4), ("22G1", 0.45))
    gate.process()
    return asked(gate, expect=CODE), "it differs from MSCU1234566 in 1 sign"


def pieces_below_threshold() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE, 0.2))
    gate.process()
    return asked(gate), 'the rules would have made of it container_code "MSCU1234566" (valid)'


def outvoted() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    for text in (CODE, OTHER, OTHER):
        gate.capture((text, 0.9), passage="p")
    gate.process()
    return asked(
        gate, expect=CODE
    ), "frame #0 read MSCU1234566 and was outvoted in passage p, which says CSQU3054383: CSQU3054383 2"


def read_differently() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE[:-1], 0.9))
    gate.process()
    return asked(gate, expect=CODE), 'the rules took it for text "MSCU123456" (not verifiable)'


def late() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE, 0.9))
    at_us = gate.pass_time(1)
    gate.pass_time(40)
    gate.process()
    return asked(gate, at_us=at_us, expect=CODE), "40.0 s after the moment; it arrived at once, and took 41.0 s from there"


def failed() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.reader.broken.add(gate.blobs.get(gate.capture((CODE, 0.9)).blob))
    gate.process()
    return asked(gate), "frame #0 failed in inference: step_failed in recognizer of r1: out of memory"


def rejected() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture(image=b"not an image")
    gate.process()
    return asked(gate), "frame #0 was rejected: not_an_image"


def refused() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.refuse("too_large")
    return asked(gate), "frame #0 was refused: too_large (at the door), at the door (sdk)"


def skipped() -> tuple[WhyNot, str]:
    gate = Gate()
    gate.capture((CODE, 0.9))
    gate.register()
    gate.process()
    return asked(gate), "frame #0 was skipped: no_release_in_force"


def no_vote() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    for _ in range(2):
        gate.capture((CODE[:-1], 0.9), passage="p")
    gate.process()
    return asked(gate), 'found nothing to vote with in "MSCU123456"'


def dropped() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE, 0.9))
    gate.pass_time(100)
    gate.drop(1, 40)
    at_us = gate.now_us
    gate.pass_time(100)
    gate.capture((CODE, 0.9))
    gate.process()
    return asked(gate, at_us=at_us), "the device gave up 40 frames, #1 to #40 of session s1: spool_full_oldest_first"


def missing_numbers() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE, 0.9))
    at_us = gate.pass_time(60)
    gate.pass_time(60)
    gate.capture((CODE, 0.9), sequence=5)
    gate.process()
    return asked(gate, at_us=at_us), "#1 to #4 of session s1 never came: the next to arrive was #5"


def waiting() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE, 0.9))
    gate.process()
    gate.pass_time(100)
    gate.capture((CODE, 0.9))
    gate.process("assess")
    return asked(
        gate
    ), "frame #1 waits for infer: vision.assessments/1/1 has not been worked on; its newest event is of vision.assessments/1/0"


def dead_letter() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE, 0.9))
    partition = gate.log.bounds(FRAMES, 1).end and 1
    gate.log.append_now(Outgoing(topic=FRAMES, key=b"gate-1", value=b"\x07junk", headers=(), partition=partition))
    gate.process()
    return asked(gate), "1 records of gate-1 were kept aside by assess"


def no_frames() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE, 0.9))
    at_us = gate.pass_time(100)
    gate.pass_time(100)
    gate.capture((CODE, 0.9), session="s2")
    gate.process()
    return asked(gate, at_us=at_us), "between them the device began a new session"


def not_kept() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    at_us = gate.now_us
    gate.pass_time(1000)
    for _ in range(2):
        gate.capture((CODE, 0.9))
    gate.process()
    past = replace(gate.past, log=Trimmed(gate, FRAMES, 1))  # type: ignore[arg-type]  # a wrapper
    found = why_not(past, device="gate-1", at_us=at_us, pipeline=PIPELINE, rules=container_codes)
    return found, "what came before is not kept (vision.frames/1 from 1 on)"


def silence() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    for _ in range(5):
        gate.capture((CODE, 0.9))
        gate.process()
    at_us = gate.pass_time(8)
    gate.pass_time(7)
    gate.capture((CODE, 0.9))
    gate.process()
    return asked(gate, at_us=at_us), "no frame was captured for 16.0 s between #4 and #5; otherwise one comes every 1.0 s"


def lag() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture((CODE, 0.9))
    gate.process("assess")
    gate.pass_time(20)
    gate.process()
    return asked(gate), "infer was behind: frame #0 waited 20.0 s for it"


def promotion_pending() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.register("r2")
    gate.promote("r2", by="eve")
    gate.capture((CODE, 0.9))
    gate.process()
    return asked(gate), "the promotion of r2 by eve waited for it to be loaded"


def load_failed() -> tuple[WhyNot, str]:
    gate = Gate()
    gate.register()
    gate.promote()
    gate.load_failed("r1", "no such model file")
    gate.pass_time(1)
    return asked(gate), "r1 could not be loaded: no such model file"


def no_release() -> tuple[WhyNot, str]:
    gate = Gate()
    gate.register()
    gate.pass_time(1)
    return asked(gate), "no release of gate was in force"


def saw_nothing() -> tuple[WhyNot, str]:
    gate = gate_in_force()
    gate.capture()
    gate.process()
    return asked(gate), "the models saw nothing in frame #0, not even a candidate"


def other_below_threshold() -> tuple[WhyNot, str]:
    gate = gate_in_force(text_confidence=0.5, box_threshold=0.6)
    gate.reader.faint_box = 0.42
    gate.capture()
    gate.process()
    return asked(gate), "frame #0 saw a place that was never read with 0.42, below box_threshold=0.6 set by ana"


AS_VERDICT: dict[str, list[Callable[[], tuple[WhyNot, str]]]] = {
    "below_threshold": [below_threshold, a_near_candidate, pieces_below_threshold],
    "outvoted": [outvoted],
    "read_differently": [read_differently],
    "late": [late],
    "failed": [failed],
    "rejected": [rejected],
    "refused": [refused],
    "skipped": [skipped],
    "no_vote": [no_vote],
    "other_below_threshold": [other_below_threshold],
    "dropped": [dropped],
    "missing_numbers": [missing_numbers],
    "waiting": [waiting],
    "dead_letter": [dead_letter],
    "not_kept": [not_kept],
    "no_frames": [no_frames],
    "silence": [silence],
    "lag": [lag],
    "promotion_pending": [promotion_pending],
    "saw_nothing": [saw_nothing],
}
# Where nothing came at all, that is the verdict; these stand beside it.
BESIDE: dict[str, list[Callable[[], tuple[WhyNot, str]]]] = {"load_failed": [load_failed], "no_release": [no_release]}


@pytest.mark.parametrize(
    ("reason", "plant"), [(r, p) for r, plants in AS_VERDICT.items() for p in plants], ids=lambda of: getattr(of, "__name__", of)
)
def test_a_planted_reason_is_the_verdict(reason: str, plant: Callable[[], tuple[WhyNot, str]]) -> None:
    """The verdict is what was planted, in words that name it, and its positions are evidence."""
    found, words = plant()
    assert verdict(found) == reason
    assert words in found.verdict


@pytest.mark.parametrize(
    ("reason", "plant"), [(r, p) for r, plants in BESIDE.items() for p in plants], ids=lambda of: getattr(of, "__name__", of)
)
def test_a_planted_reason_is_found_beside_the_verdict(reason: str, plant: Callable[[], tuple[WhyNot, str]]) -> None:
    """What was planted is among the reasons, in words that name it."""
    found, words = plant()
    (mine,) = [f for f in found.findings if f.reason == reason]
    assert mine.explains
    assert words in mine.says
    assert mine.evidence


def test_every_reason_is_planted() -> None:
    """A new reason comes with its plant."""
    assert {*AS_VERDICT, *BESIDE, "was_read"} == set(REASONS)


def test_what_was_read_in_time_is_not_absent() -> None:
    """The expected text was read and published: nothing explains an absence, and what was read is said."""
    gate = gate_in_force()
    gate.capture((CODE, 0.9))
    gate.capture((CODE, 0.3))
    gate.process()
    found = asked(gate, expect="mscu 123456-6")
    assert not found.explained
    assert found.findings[0].reason == "was_read"
    assert reasons(found) == []


def test_nothing_on_the_log_explains_it() -> None:
    """Frames that were read well, and another text expected: no reason, and what was checked is said."""
    gate = gate_in_force()
    gate.capture((OTHER, 0.9))
    gate.process()
    found = asked(gate, expect=CODE)
    assert not found.explained
    assert any("1 frames of gate-1 in the window" in line for line in found.checked)
    assert any("1 assessed, 1 inferred, 1 derived" in line for line in found.checked)


def test_only_frames_of_the_device_and_the_window_count() -> None:
    """Another device on the same partition, and the same device long before, explain nothing."""
    gate = Gate(partitions=1)
    gate.put_in_force()
    gate.capture((CODE, 0.2))
    gate.pass_time(1000)
    gate.capture((CODE, 0.2), device="gate-2")
    at_us = gate.now_us
    gate.process()
    found = asked(gate, at_us=at_us, expect=CODE)
    assert (found.frames_count, verdict(found)) == (0, "no_frames")


def test_evidence_names_where_to_look() -> None:
    """Evidence of a candidate: its frame, its inference, and the event that set the threshold."""
    found, _ = below_threshold()
    assert [p.topic for p in found.findings[0].evidence] == [FRAMES, INFERENCES, RELEASES]
    assert found.findings[0].sequences == (0,)


def test_copies_of_events_count_once() -> None:
    """Workers that died and did their work again make no second frame of one."""
    gate = gate_in_force()
    gate.capture((CODE, 0.31))
    gate.process()
    before = asked(gate, expect=CODE)
    for step in ("assess", "infer", "derive"):
        gate.again(step, back=1)
    after = asked(gate, expect=CODE)
    assert (after.findings, after.frames_count) == (before.findings, before.frames_count)
    assert gate.log.bounds(RESULTS, 1).end > 1
    assert gate.log.bounds(ASSESSMENTS, 1).end > 1


def test_likeness_goes_over_the_whole_text() -> None:
    """Near is a third of the signs or a piece of three; case and spaces are no difference."""
    assert likeness(CODE, "mscu 123456 6").distance == 0
    assert likeness(CODE, "MSCU").is_part
    assert likeness(CODE, "MSCU12345").near
    assert not likeness(CODE, "22G1").near
    assert not likeness(CODE, "66").near
    assert not likeness(CODE, "").near


def test_only_a_late_result_of_the_expected_text_is_late() -> None:
    """Another text that came late does not explain why the expected one never came."""
    gate = gate_in_force()
    gate.capture((OTHER, 0.9))
    at_us = gate.pass_time(1)
    gate.pass_time(40)
    gate.process()
    assert "late" not in reasons(asked(gate, at_us=at_us, expect=CODE))
    assert verdict(asked(gate, at_us=at_us)) == "late"


def test_frames_that_another_partitioner_placed_are_in_the_window() -> None:
    """A sender with another hash puts frames elsewhere; they are not taken for missing."""
    gate = Gate(partitions=4)
    gate.put_in_force()
    gate.displaced = next(p for p in range(4) if p != partition_of(b"gate-1", 4))
    gate.capture((CODE, 0.31))
    gate.process()
    found = asked(gate, expect=CODE)
    assert (found.frames_count, verdict(found)) == (1, "below_threshold")


def test_what_a_bundle_does_not_hold_is_refused_and_no_absence() -> None:
    """Outside of its time and its devices a bundle knows nothing, and says so."""
    gate = gate_in_force()
    gate.capture((CODE, 0.9))
    gate.process()
    scope = Scope(from_us=gate.now_us - SECOND, to_us=gate.now_us, devices=("gate-1",), pipeline=PIPELINE)
    past = replace(gate.past, scope=scope)
    inside = {"device": "gate-1", "at_us": gate.now_us}
    assert why_not(past, pipeline=PIPELINE, **inside).frames_count == 1
    for outside in ({"device": "gate-2"}, {"at_us": gate.now_us + 60 * SECOND}, {"at_us": gate.now_us - 60 * SECOND}):
        with pytest.raises(ContractError, match=r"is outside of|was made without"):
            why_not(past, pipeline=PIPELINE, **{**inside, **outside})
