"""Dead letters redriven, on in-memory twins: the same frames, each counted once, whatever fails, dies or is asked twice."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest

from processors.assess.core import Limits
from processors.assess.step import AssessStep
from processors.derive.step import DeriveStep
from processors.infer.core import Route
from processors.infer.step import InferStep, Retries
from processors.kept import KeptStates
from processors.letters import Letter, letter_of
from processors.lookback.explain import explain
from processors.lookback.window import gather
from processors.partition import PartitionRunner
from processors.redrive.step import RedriveStep
from processors.redriven import PREFIX as REDRIVE
from processors.redriven import redriven_of
from processors.release.loader import command_record
from processors.rules import container_codes
from processors.step import Ports, Step
from processors.views.catalogue import VIEWS
from processors.views.step import ViewStep
from processors.views.upkeep import check
from schemas import ids
from schemas.catalogue import ASSESSMENTS, COMMANDS, DEAD_LETTERS, FRAMES, INFERENCES, REDRIVES, RESULTS
from schemas.codec import FixedSchemas, decode, encode
from schemas.envelope import Headers
from schemas.errors import DecodeError, LogUnavailableError, StepFailedError
from schemas.events import (
    DiscardLetters,
    FrameCaptured,
    InferenceCompleted,
    LetterDiscarded,
    LetterRedriven,
    LetterRefused,
    RedriveLetters,
    ResultCorrected,
    ResultDerived,
)
from schemas.types import EventId, SourcePosition
from streams.memory import MemoryBlobStore, MemoryLog, MemoryViewStore
from streams.past import Past
from streams.ports import Answer
from streams.records import Outgoing, Position, Record
from tests.given import AT_US, frame
from tests.simulation import virtual_time

DEVICE = "gate-1"
CODE = "CSQU3054383"


class Models:
    """An ensemble that fails while it is broken."""

    is_broken = False
    label = CODE

    async def infer(self, release: str, image: bytes, parameters: Any, *, traceparent: str = "") -> Answer:
        if self.is_broken:
            raise StepFailedError("step recognizer failed", step="recognizer", endpoint="one:8001")
        seen = {"index": 0, "kind": "text", "label": self.label, "confidence": 0.9, "detection_score": 1.0, "measures": {}}
        result = {
            "image": {"width_px": 32, "height_px": 24},
            "observations": [{**seen, "polygon_px": [0, 0, 9, 0, 9, 4, 0, 4]}],
            "candidates": [],
        }
        return Answer(
            result_json=json.dumps(result).encode(), report_json=json.dumps({"steps": [], "runtime": {}}).encode(), endpoint="one"
        )


class Dying:
    """An appender that dies after some records, as a process does: what it wrote is on the log."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.left: int | None = None

    async def append(self, outgoing: Outgoing) -> Position:
        if self.left is not None:
            if self.left == 0:
                raise LogUnavailableError("dead")
            self.left -= 1
        return self._log.append_now(outgoing)


class Gate:
    """The whole chain on one partition, one runner for each step and view; `die` starts all of them anew."""

    def __init__(self) -> None:
        self.log = MemoryLog(self.clock, partitions=1)
        self.blobs, self.views, self.schemas = MemoryBlobStore(), MemoryViewStore(), FixedSchemas()
        self.models, self.appender = Models(), Dying(self.log)
        self.failures: list[BaseException] = []
        pixels = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)
        self._blob = self.blobs.put(bytes(cv2.imencode(".png", pixels)[1].tobytes()), "image/png")
        self.given: dict[str, int] = {}
        self.runners: dict[str, PartitionRunner[Any]] = {}
        self.start()

    @staticmethod
    def clock() -> int:
        return AT_US + int(asyncio.get_running_loop().time() * 1e6)

    def steps(self) -> list[Step[Any]]:
        route = Route(release="r1", parameters={}, pins={}, releases_offset=1)
        infer = InferStep(
            pipeline="gate",
            route=lambda _: route,
            inference=self.models,
            blobs=self.blobs,
            clock=self.clock,
            retries=Retries(attempts_max=1),
            concurrency=4,
        )
        return [
            AssessStep(self.blobs, limits=Limits(), max_bytes=1 << 20, max_pixels=1 << 20),
            infer,
            DeriveStep(container_codes),
            RedriveStep(self.log, self.appender, self.views, self.schemas, attempts_max=3),
            *(ViewStep(view) for view in VIEWS.values()),
        ]

    def start(self) -> None:
        ports: Ports[Any] = Ports(log=self.log, appender=self.appender, views=self.views, schemas=self.schemas, clock=self.clock)
        for step in self.steps():
            window = 1 if step.name == "redrive" else 8
            self.runners[step.name] = PartitionRunner(step, ports, 0, window=window, batch=window, failed=self.failures.append)

    async def die(self) -> None:
        """Every process ends and is started again; what was given and not acknowledged is given again."""
        for runner in self.runners.values():
            await runner.stop()
        self.appender.left = None
        self.start()
        await self.settle()

    async def settle(self, rounds: int = 6) -> None:
        """Give every step what it has not acknowledged, until nothing follows any more."""
        topics = {step.name: step.topic for step in self.steps()}
        for _ in range(rounds):
            for name, runner in self.runners.items():
                topic = topics[name]
                for record in list(self.log.read(topic, 0, self.given.get(name, 0), self.log.bounds(topic, 0).end)):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(runner.submit([record], partial(self._acknowledge, name)), 30)
            await asyncio.sleep(20)

    def _acknowledge(self, name: str, record: Record) -> None:
        self.given[name] = max(self.given.get(name, 0), record.offset + 1)

    def send(self, *sequences: int, device: str = DEVICE, passage: str = "p", headers: Headers = ()) -> None:
        for sequence in sequences:
            ref = replace(frame(sequence, device=device, passage=passage), blob=self._blob)
            captured = FrameCaptured(event_id=ids.captured_id(ref.frame_id), frame=ref, received_at_us=AT_US, channel="sdk")
            self.raw(FRAMES, encode(captured, self.schemas), device.encode(), *headers)

    def raw(self, topic: str, value: bytes | None, key: bytes | None = b"gate-1", *headers: tuple[str, bytes]) -> int:
        return self.log.append_now(Outgoing(topic=topic, key=key, value=value, headers=headers, partition=0)).offset

    def ask(self, command: Any) -> None:
        self.log.append_now(command_record(command, self.schemas, AT_US))

    def redrive(self, *offsets: int, beyond_limit: bool = False) -> None:
        self.ask(
            RedriveLetters(
                command_id=EventId(ids.named_id("redrive", str(self.log.bounds(COMMANDS, 0).end))),
                letter_offsets=offsets,
                beyond_limit=beyond_limit,
                issued_by="ana",
                reason="mended",
                issued_at_us=AT_US,
            )
        )

    def events(self, topic: str) -> list[Any]:
        return [decode(r.value, topic, self.schemas) for r in self.records(topic)]

    def records(self, topic: str) -> list[Record]:
        return list(self.log.read(topic, 0, 0, self.log.bounds(topic, 0).end))

    def letters(self) -> list[Letter]:
        return [letter_of(r) for r in self.records(DEAD_LETTERS)]

    async def states(self, view: str) -> dict[str, Any]:
        stored = await self.views.load_all(view, 0)
        return {k: json.loads(v) for k, v in stored.states.items() if not k.startswith("@")}

    async def troubles(self, frames: int) -> list[str]:
        """Every way in which it isn't each frame once, and every view the fold of its log."""
        found = [repr(e) for e in self.failures]
        results = await self.states("results_by_frame")
        found += [f"{len(results)} results of {frames} frames"] if len(results) != frames else []
        found += [f"{f} counted {r['counted']} times" for f, r in results.items() if r["counted"] != 1]
        for device in (await self.states("device_results")).values():
            sums = [sum(device[n].values()) for n in ("outcome_counts", "release_counts")]
            found += [f"the device counts {sums}"] if sums != [frames, frames] else []
        for device in (await self.states("device_features")).values():
            hours = sum(h["results_count"] for h in device["hours"].values())
            found += [f"the hours count {hours}"] if hours != frames else []
        for view in VIEWS.values():
            held = await check(view, self.log, self.views, self.schemas, 0)
            found += [f"{view.name} differs in {held.different_keys}"] if not held.equal else []
        return found

    async def outcomes(self) -> list[str]:
        return [r["result"]["outcome"] for r in (await self.states("results_by_frame")).values()]


def at_the_gate(test: Callable[[Gate], Awaitable[None]]) -> None:
    async def whole() -> None:
        gate = Gate()
        await test(gate)
        for runner in gate.runners.values():
            await runner.stop()

    virtual_time.run(whole)


async def with_two_failed(gate: Gate) -> None:
    """Five frames of one passage, of which the second and the fourth failed; mended now."""
    for number in range(5):
        gate.models.is_broken = number in (1, 3)
        gate.send(number)
        await gate.settle()
    assert [(x.topic, x.processor, x.of_offset) for x in gate.letters()] == [(ASSESSMENTS, "infer", n) for n in (1, 3)]
    assert await gate.outcomes() == ["read", "failed", "read", "failed", "read"]


def test_failed_frames_are_read_when_they_are_redriven_and_counted_once() -> None:
    """Same frames, same bytes, in their order; the new answers take the failed ones' place in every view; one event for each."""

    async def test(gate: Gate) -> None:
        await with_two_failed(gate)
        gate.redrive(0, 1)
        await gate.settle()
        assert await gate.troubles(5) == []
        assert await gate.outcomes() == ["read"] * 5
        records = gate.records(ASSESSMENTS)
        copies = [r for r in records if redriven_of(r) is not None]
        assert [(c.key, c.value) for c in copies] == [(records[n].key, records[n].value) for n in (1, 3)]
        assert [tuple(h for h in c.headers if not h[0].startswith(REDRIVE)) for c in copies] == [
            records[n].headers for n in (1, 3)
        ]
        done = gate.events(REDRIVES)
        assert all(isinstance(e, LetterRedriven) for e in done)
        assert [(e.letter_offset, e.offset, e.copy_offset, e.attempt, e.issued_by, e.reason) for e in done] == [
            (0, 1, 5, 1, "ana", "mended"),
            (1, 3, 6, 1, "ana", "mended"),
        ]
        answers = gate.events(INFERENCES)
        assert [a.supersedes.inference_id for a in answers[5:]] == [answers[1].event_id, answers[3].event_id]
        assert [a.frame.frame_id for a in answers[5:]] == [answers[1].frame.frame_id, answers[3].frame.frame_id]
        last = gate.events(RESULTS)[-1]
        assert isinstance(last, ResultDerived)
        assert (last.conclusion.frames_count, last.conclusion.votes_for, last.outcome) == (5, 5, "read")
        device = (await gate.states("device_results"))[DEVICE]
        assert device["outcome_counts"] == {"read": 5}
        assert device["last_result"]["frame"]["sequence"] == 4

    at_the_gate(test)


def test_a_view_store_that_forgot_is_the_same_again() -> None:
    """What is caught up from the log after a redrive is what was counted live."""

    async def test(gate: Gate) -> None:
        await with_two_failed(gate)
        gate.redrive(0, 1)
        await gate.settle()
        before = {name: await gate.states(name) for name in ("assess", "derive", *VIEWS)}
        gate.views.forget()
        await gate.settle()
        assert {name: await gate.states(name) for name in before} == before
        assert await gate.troubles(5) == []

    at_the_gate(test)


@pytest.mark.parametrize("written", range(6))
def test_a_worker_that_dies_in_between_redrives_once(written: int) -> None:
    """Whatever was written before it died, the copies and the events are there once for each reader, and name the same copies."""

    async def test(gate: Gate) -> None:
        await with_two_failed(gate)
        gate.redrive(0, 1)
        gate.appender.left = written
        await gate.settle(2)
        await gate.die()
        assert await gate.troubles(5) == []
        assert await gate.outcomes() == ["read"] * 5
        copies = [r for r in gate.records(ASSESSMENTS) if redriven_of(r) is not None]
        assert len(copies) == 2
        assert {(e.letter_offset, e.copy_offset) for e in gate.events(REDRIVES)} == {(0, 5), (1, 6)}

    at_the_gate(test)


def test_a_copy_that_was_under_way_is_dropped_by_its_reader() -> None:
    """The same copy twice on the log, as a producer leaves it that died with the record sent, is read once."""

    async def test(gate: Gate) -> None:
        await with_two_failed(gate)
        gate.redrive(0, 1)
        await gate.settle()
        for record in gate.records(ASSESSMENTS)[5:]:
            gate.raw(ASSESSMENTS, record.value, record.key, *record.headers)
        await gate.settle()
        assert len(gate.events(INFERENCES)) == 7
        assert await gate.troubles(5) == []

    at_the_gate(test)


def test_a_record_that_fails_again_ends_at_the_bound() -> None:
    """Each failure is a new letter with its attempt; the fourth is refused, and done once more only for who names it so."""

    async def test(gate: Gate) -> None:
        gate.models.is_broken = True
        gate.send(0)
        await gate.settle()
        for number in range(4):
            gate.redrive(number)
            await gate.settle()
        assert [x.attempts for x in gate.letters()] == [0, 1, 2, 3]
        refused = gate.events(REDRIVES)[-1]
        assert isinstance(refused, LetterRefused)
        assert (refused.letter_offset, refused.action, refused.refusal) == (3, "redrive", "attempts")
        assert await gate.troubles(1) == []
        gate.redrive(3, 2, beyond_limit=True)
        await gate.settle()
        assert [e.refusal for e in gate.events(REDRIVES)[-2:]] == ["attempts", "already_redriven"]
        gate.models.is_broken = False
        gate.redrive(3, beyond_limit=True)
        await gate.settle()
        assert (await gate.outcomes(), await gate.troubles(1), len(gate.letters())) == (["read"], [], 4)

    at_the_gate(test)


def test_what_must_not_be_redriven_is_refused_by_name() -> None:
    """Letters that are none, are done with, belong to views or commands, or whose record was answered: an event for each."""

    async def test(gate: Gate) -> None:
        gate.send(0)
        await gate.settle()
        gate.raw(ASSESSMENTS, b"\x01garbage", b"\xff\xfe")
        gate.raw(COMMANDS, b"garbage", None)
        await gate.settle()
        views = [x.offset for x in gate.letters() if x.processor == "device_frames"]
        commands = [x.offset for x in gate.letters() if x.topic == COMMANDS]
        told = [("topic", ASSESSMENTS), ("partition", "0"), ("offset", "0"), ("processor", "infer"), ("appended_at_ms", "1")]
        headers = tuple((f"hindsight_dlq_{n}", v.encode()) for n, v in told)
        nothing = gate.raw(DEAD_LETTERS, None, None)
        answered = gate.raw(DEAD_LETTERS, gate.records(ASSESSMENTS)[0].value, b"k", *headers)
        elsewhere = tuple((n, b"77" if n.endswith("partition") else v) for n, v in headers)
        nowhere = gate.raw(DEAD_LETTERS, b"x", b"k", *elsewhere)
        other = tuple((n, b"9" if n.endswith("offset") else v) for n, v in headers)
        short = gate.raw(DEAD_LETTERS, None, b"k", *other, ("hindsight_dlq_left_out_value_bytes", b"99999999"))
        offsets = (views[0], commands[0], nothing, answered, nowhere, short, 10**12)
        gate.redrive(*offsets)
        await gate.settle()
        refused = ["read_in_place", "command", "not_a_letter", "already_answered", "no_such_place", "left_out", "no_such_letter"]
        assert [(e.letter_offset, getattr(e, "refusal", e)) for e in gate.events(REDRIVES)] == list(
            zip(offsets, refused, strict=True)
        )
        gate.ask(
            DiscardLetters(
                command_id=EventId(ids.named_id("discard")),
                letter_offsets=(nothing, nothing, short),
                issued_by="ana",
                reason="noise",
                issued_at_us=AT_US,
            )
        )
        gate.redrive(nothing, short)
        await gate.settle()
        done = gate.events(REDRIVES)[len(offsets) :]
        assert [type(e) for e in done] == [LetterDiscarded, LetterRefused, LetterDiscarded, LetterRefused, LetterRefused]
        assert [getattr(e, "refusal", "") for e in done] == ["", "named_twice", "", "discarded", "discarded"]
        assert await gate.troubles(1) == []

    at_the_gate(test)


def test_one_record_that_two_processors_could_not_use_goes_only_to_the_one_that_was_asked_for() -> None:
    """A record that never decodes gives infer one more letter when it is redriven for infer, and the views none."""

    async def test(gate: Gate) -> None:
        gate.send(0)
        gate.raw(ASSESSMENTS, b"\x01garbage", b"\xff\xfe")
        await gate.settle()
        before = gate.letters()
        gate.redrive(*(x.offset for x in before))
        await gate.settle()
        (new,) = gate.letters()[len(before) :]
        assert (new.processor, new.attempts, new.key, new.value) == ("infer", 1, b"\xff\xfe", b"\x01garbage")
        assert await gate.troubles(1) == []

    at_the_gate(test)


def test_a_frame_whose_assessment_failed_unexpectedly_is_no_repeat_when_it_is_redriven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number was counted, and nothing followed: redriven, it is accepted, and read."""

    async def test(gate: Gate) -> None:
        with monkeypatch.context() as broken:
            broken.setattr("processors.assess.core._accepted", lambda *a: {}["bug"])
            gate.send(0)
            await gate.settle()
        assert [(x.processor, x.error_class, x.was_counted) for x in gate.letters()] == [("assess", "KeyError", True)]
        gate.redrive(0)
        await gate.settle()
        assert (await gate.outcomes(), await gate.troubles(1)) == (["read"], [])
        assert isinstance(gate.events(INFERENCES)[0], InferenceCompleted)
        assert gate.events(INFERENCES)[0].supersedes is None
        gate.send(0)
        await gate.settle()
        assert gate.events(ASSESSMENTS)[-1].reasons == ("repeated",)

    at_the_gate(test)


def test_a_passage_whose_rules_failed_counts_its_frame_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """derive had folded the inference before it failed: redriven, the frame is in the passage once, also when it catches up."""

    async def test(gate: Gate) -> None:
        gate.send(0)
        with monkeypatch.context() as broken:
            broken.setattr("processors.derive.core._result", lambda *a: {}["bug"])
            gate.send(1)
            await gate.settle(1)
            await gate.settle(3)
        failed = len(gate.letters())
        assert failed > 0
        gate.redrive(*range(failed))
        await gate.settle()
        assert (await gate.outcomes(), await gate.troubles(2)) == (["read"] * 2, [])
        assert gate.events(RESULTS)[-1].conclusion.frames_count == 2
        before = await gate.states("derive")
        gate.views.forget()
        await gate.settle()
        assert await gate.states("derive") == before

    at_the_gate(test)


def test_a_processor_that_may_still_answer_is_waited_for() -> None:
    """It wrote the letter and died before it came past the record: started again it answers, and the letter is refused."""

    async def test(gate: Gate) -> None:
        infer = gate.runners.pop("infer")
        gate.send(0)
        await gate.settle()
        told = [("topic", ASSESSMENTS), ("partition", "0"), ("offset", "0"), ("processor", "infer"), ("appended_at_ms", "1")]
        gate.raw(DEAD_LETTERS, gate.records(ASSESSMENTS)[0].value, b"k", *((f"hindsight_dlq_{n}", v.encode()) for n, v in told))
        gate.redrive(0)
        await gate.settle(rounds=1)
        assert (len(gate.records(ASSESSMENTS)), gate.events(REDRIVES)) == (1, [])
        gate.runners["infer"] = infer
        await gate.settle()
        assert [e.refusal for e in gate.events(REDRIVES)] == ["already_answered"]
        assert (await gate.outcomes(), await gate.troubles(1)) == (["read"], [])

    at_the_gate(test)


@pytest.mark.parametrize("written", range(5))
def test_a_failed_frame_has_its_letter_wherever_its_worker_dies(written: int) -> None:
    """The letter is on the log before the failure, so what failed for good can always be redriven."""

    async def test(gate: Gate) -> None:
        gate.models.is_broken = True
        gate.send(0)
        gate.appender.left = written
        await gate.settle(2)
        gate.models.is_broken = False
        await gate.die()
        assert (await gate.troubles(1)) == []
        assert await gate.outcomes() == ["read"] or [x.processor for x in gate.letters()] == ["infer"]

    at_the_gate(test)


def test_a_frame_redriven_while_no_release_reads_can_be_redriven_again() -> None:
    """It is not skipped for good: it is kept aside once more, and the next time it is read and counted once."""

    async def test(gate: Gate) -> None:
        await with_two_failed(gate)
        infer: Any = gate.runners["infer"]._step
        in_force, infer._route = infer._route, lambda _: Route(release=None, parameters={}, pins={}, releases_offset=0)
        gate.redrive(0)
        await gate.settle()
        assert (await gate.outcomes())[1] == "failed"
        assert "no release is in force" in gate.letters()[2].error_message
        infer._route = in_force
        gate.redrive(2, 1)
        await gate.settle()
        assert (await gate.outcomes(), await gate.troubles(5)) == (["read"] * 5, [])

    at_the_gate(test)


def test_redrive_headers_that_name_no_reader_of_the_topic_are_not_believed() -> None:
    """A frame that somebody sends with such headers is a frame."""

    async def test(gate: Gate) -> None:
        for sequence, reader in enumerate((b"nobody", b"infer", b"")):
            told = {"command": b"1", "index": b"0", "attempt": b"1", "letter": b"0", "for": reader}
            gate.send(sequence, headers=tuple((f"hindsight_redrive_{name}", value) for name, value in told.items()))
        await gate.settle()
        assert (await gate.outcomes(), await gate.troubles(3)) == (["read"] * 3, [])

    at_the_gate(test)


def test_a_letter_that_somebody_copies_back_is_a_case_of_its_own() -> None:
    """With the letter's headers and all: it fails again where it lies now, and is listed as that."""

    async def test(gate: Gate) -> None:
        gate.raw(FRAMES, b"\x01garbage")
        await gate.settle()
        letter = gate.records(DEAD_LETTERS)[0]
        gate.raw(FRAMES, letter.value, b"gate-1", *letter.headers)
        await gate.settle()
        assert [x.of for x in gate.letters()] == ["vision.frames/0/0", "vision.frames/0/1"]

    at_the_gate(test)


def test_a_processor_that_is_not_there_does_not_hold_up_other_commands() -> None:
    """Its letter is refused after a while, with what to look for; what was asked behind it is done."""

    async def test(gate: Gate) -> None:
        gate.runners.pop("infer")
        gate.send(0)
        await gate.settle()
        told = [("topic", ASSESSMENTS), ("partition", "0"), ("offset", "0"), ("processor", "infer"), ("appended_at_ms", "1")]
        gate.raw(DEAD_LETTERS, gate.records(ASSESSMENTS)[0].value, b"k", *((f"hindsight_dlq_{n}", v.encode()) for n, v in told))
        gate.raw(DEAD_LETTERS, b"noise", b"k")
        gate.redrive(0)
        gate.ask(
            DiscardLetters(command_id=EventId("d"), letter_offsets=(1,), issued_by="ana", reason="noise", issued_at_us=AT_US)
        )
        await gate.settle()
        assert [(type(e).__name__, getattr(e, "refusal", "")) for e in gate.events(REDRIVES)] == [
            ("LetterRefused", "not_answered_yet"),
            ("LetterDiscarded", ""),
        ]

    at_the_gate(test)


def test_a_letter_of_a_record_that_is_not_there_is_refused() -> None:
    """The letters were kept, or copied, while the log was made anew."""

    async def test(gate: Gate) -> None:
        gate.send(0)
        await gate.settle()
        told = [("topic", ASSESSMENTS), ("partition", "0"), ("offset", "999"), ("processor", "infer"), ("appended_at_ms", "1")]
        gate.raw(DEAD_LETTERS, gate.records(ASSESSMENTS)[0].value, b"k", *((f"hindsight_dlq_{n}", v.encode()) for n, v in told))
        gate.redrive(0)
        await gate.settle()
        assert [e.refusal for e in gate.events(REDRIVES)] == ["no_such_place"]
        assert (await gate.outcomes(), await gate.troubles(1)) == (["read"], [])

    at_the_gate(test)


def test_what_a_command_said_before_its_worker_died_stands() -> None:
    """A refusal that is on the log by this command is not turned into a redrive when the command is done again."""

    async def test(gate: Gate) -> None:
        await with_two_failed(gate)
        place = SourcePosition(topic=COMMANDS, partition=0, offset=gate.log.bounds(COMMANDS, 0).end, index=0)
        said = LetterRefused(
            event_id=ids.event_id(place, "LetterRefused"),
            source=place,
            letter_offset=0,
            action="redrive",
            refusal="attempts",
            detail="by the setting as it was then",
            command_id=EventId(ids.named_id("redrive", str(place.offset))),
            issued_by="ana",
            refused_at_us=AT_US,
        )
        gate.raw(REDRIVES, encode(said, gate.schemas), b"0", ("ce_source", b"hindsight/redrive"))
        gate.redrive(0, 1)
        await gate.settle()
        assert [redriven_of(r).letter_offset for r in gate.records(ASSESSMENTS)[5:]] == [1]  # type: ignore[union-attr]
        assert [type(e) for e in gate.events(REDRIVES)] == [LetterRefused, LetterRefused, LetterRedriven]
        assert await gate.troubles(5) == []

    at_the_gate(test)


class Unreadable:
    """One processor cannot decode its topic while `on`: a schema is not there, or its worker is too old."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.on = False
        whole = KeptStates.decode

        def decode(kept: KeptStates[Any], record: Record) -> Any:
            if self.on and kept._step.name == name:
                raise DecodeError("unknown schema id 77")
            return whole(kept, record)

        monkeypatch.setattr(KeptStates, "decode", decode)


@pytest.mark.parametrize("forgets", ["before", "after"])
@pytest.mark.parametrize("name", ["assess", "derive"])
def test_a_store_that_forgets_counts_the_original_or_its_copy(name: str, forgets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be decoded live and can be when the log is caught up is counted once, whenever the store is emptied."""

    async def test(gate: Gate) -> None:
        unreadable = Unreadable(monkeypatch, name)
        for sequence in range(2):
            unreadable.on = sequence == 1
            gate.send(sequence)
            await gate.settle()
        unreadable.on = False
        for what in ("forget", "redrive") if forgets == "before" else ("redrive", "forget"):
            if what == "forget":
                gate.views.forget()
            else:
                gate.redrive(0)
            await gate.settle()
        gate.send(2)
        await gate.settle()
        assert (await gate.outcomes(), await gate.troubles(3)) == (["read"] * 3, [])
        concluded = gate.events(RESULTS)[-1].conclusion
        assert (concluded.frames_count, concluded.votes_for) == (3, 3)

    at_the_gate(test)


def test_a_redriven_frame_that_corrects_an_old_passage_leaves_the_newest_conclusion() -> None:
    """A device's last conclusion stays that of its last passage, whatever an older one turns out to be."""

    async def test(gate: Gate) -> None:
        for sequence, passage, label in ((0, "p1", "CSQU3054384"), (1, "p1", ""), (2, "p2", "MSKU6011672")):
            gate.models.label, gate.models.is_broken = label, not label
            gate.send(sequence, passage=passage)
            await gate.settle()
        gate.models.label, gate.models.is_broken = CODE, False
        gate.redrive(0)
        await gate.settle()
        assert [type(e) for e in gate.events(RESULTS)[-2:]] == [ResultDerived, ResultCorrected]
        device = (await gate.states("device_results"))[DEVICE]
        assert device["last_conclusion"]["passage_id"] == "p2"
        assert await gate.troubles(3) == []

    at_the_gate(test)


@pytest.mark.parametrize("first", ["infer", "derive"])
def test_a_failure_without_a_result_gets_its_result_before_it_is_superseded(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """infer's letter is refused until derive's is done with, so that no other frame's failure is taken from the counts."""

    async def test(gate: Gate) -> None:
        gate.models.is_broken = True
        gate.send(0)
        await gate.settle()
        with monkeypatch.context() as broken:
            broken.setattr("processors.derive.core._result", lambda *a: {}["bug"])
            gate.send(1)
            await gate.settle()
        gate.models.is_broken = False
        by = {(x.processor, x.of_offset): x.offset for x in gate.letters()}
        both = [by["infer", 1], by["derive", 1]]
        for offset in (*both, both[0]) if first == "infer" else both[::-1]:
            gate.redrive(offset)
            await gate.settle()
        refused = [e.refusal for e in gate.events(REDRIVES) if isinstance(e, LetterRefused)]
        assert refused == (["no_result_yet"] if first == "infer" else [])
        assert (await gate.outcomes(), await gate.troubles(2)) == (["failed", "read"], [])

    at_the_gate(test)


def test_what_a_command_passed_over_is_not_written_behind_what_came_after_it() -> None:
    """Its reader would drop it as a repeat: done again under another setting, the command refuses it, and it stays open."""

    async def test(gate: Gate) -> None:
        gate.models.is_broken = True
        gate.send(0)
        await gate.settle()
        gate.redrive(0)
        await gate.settle()
        gate.send(1)
        await gate.settle()
        gate.models.is_broken = False
        gate.runners["redrive"]._step._attempts_max = 1  # type: ignore[attr-defined]
        gate.redrive(1, 2)
        gate.appender.left = 1
        await gate.settle(2)
        await gate.die()
        assert [e.refusal for e in gate.events(REDRIVES) if isinstance(e, LetterRefused)] == ["passed_over"]
        gate.redrive(1)
        await gate.settle()
        assert (await gate.outcomes(), await gate.troubles(2)) == (["read"] * 2, [])

    at_the_gate(test)


def test_many_letters_are_looked_up_in_one_pass() -> None:
    """What a command of a hundred letters reads grows with the log that they lie in, not with the letters times that."""

    async def test(gate: Gate) -> None:
        gate.models.is_broken = True
        gate.send(*range(100))
        await gate.settle(4)
        gate.models.is_broken = False
        read, whole = [0], gate.log.read

        def reading(topic: str, partition: int, start: int, stop: int) -> Any:
            for record in whole(topic, partition, start, stop):
                read[0] += topic != COMMANDS
                yield record

        gate.runners["redrive"]._step._log = replace_read(gate.log, reading)  # type: ignore[attr-defined]
        gate.redrive(*range(100))
        await gate.settle(4)
        assert await gate.outcomes() == ["read"] * 100
        assert read[0] < 1000

    at_the_gate(test)


def replace_read(log: MemoryLog, reading: Any) -> Any:
    """The same log, read by `reading`."""

    class Told:
        def __getattr__(self, name: str) -> Any:
            return reading if name == "read" else getattr(log, name)

    return Told()


def test_redrive_headers_of_a_command_that_never_was_hold_up_no_redrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that somebody sends as the copy of a command far ahead is a frame; what is redriven after it is read, once."""

    async def test(gate: Gate) -> None:
        unreadable = Unreadable(monkeypatch, "assess")
        told = (
            ("command", b"999999999"),
            ("index", b"0"),
            ("attempt", b"1"),
            ("letter", b"0"),
            ("for", b"assess"),
            ("counted", b"1"),
        )
        gate.send(0, headers=tuple((REDRIVE + name, text) for name, text in told))
        await gate.settle()
        unreadable.on = True
        gate.send(1)
        await gate.settle()
        unreadable.on = False
        gate.redrive(0)
        await gate.settle()
        assert (await gate.outcomes(), await gate.troubles(2)) == (["read"] * 2, [])
        before = await gate.states("assess")
        gate.views.forget()
        await gate.settle()
        gate.send(1)
        await gate.settle()
        assert (await gate.outcomes(), await gate.troubles(2)) == (["read"] * 2, [])
        assert (await gate.states("assess")).keys() == before.keys()

    at_the_gate(test)


def past_of(gate: Gate) -> Past:
    return Past(log=gate.log, schemas=gate.schemas, blobs=gate.blobs, source="the log")


def explained(gate: Gate, sequence: int) -> Any:
    return explain(past_of(gate), str(frame(sequence, device=DEVICE).frame_id), rules=container_codes)


def test_what_came_of_a_redriven_frame_is_told_however_much_later_it_was() -> None:
    """1,400 frames lie between the failure and the redrive: explain and why-not tell the reading, not the failure."""

    async def test(gate: Gate) -> None:
        gate.models.is_broken = True
        gate.send(0)
        await gate.settle(2)
        gate.models.is_broken = False
        at_us = gate.records(FRAMES)[0].appended_at_ms * 1000
        gate.send(*range(1400), device="other")
        await gate.settle(3)
        assert explained(gate, 0).inference.event == "InferenceFailed"
        gate.redrive(0)
        await gate.settle(3)
        told = explained(gate, 0)
        assert (told.inference.event, told.result.content["outcome"]) == ("InferenceCompleted", "read")
        (story,) = gather(past_of(gate), DEVICE, at_us=at_us, around_s=1.0).stories
        assert (story.inference.type, story.result.event.outcome) == ("InferenceCompleted", "read")

    at_the_gate(test)


def test_the_votes_of_a_passage_with_redriven_frames_are_those_that_count() -> None:
    """Each frame's explanation agrees with what was recorded, also of frames that came after the redrive."""

    async def test(gate: Gate) -> None:
        await with_two_failed(gate)
        gate.redrive(0, 1)
        await gate.settle()
        gate.send(5)
        await gate.settle()
        assert [explained(gate, sequence).passage.agrees for sequence in range(6)] == [True] * 6

    at_the_gate(test)
