"""Dead letters as they are listed and shown: whatever lies there, and what became of it."""

import json

import pytest

from processors.dead_letters import dead_letter
from processors.lookback.cases import Wanted, case_at, cases
from schemas import ids
from schemas.catalogue import ASSESSMENTS, COMMANDS, DEAD_LETTERS, FRAMES, REDRIVES
from schemas.codec import FixedSchemas, encode
from schemas.errors import DecodeError
from schemas.events import LetterDiscarded, LetterRedriven
from schemas.types import EventId, SourcePosition
from streams.memory import MemoryBlobStore, MemoryLog
from streams.past import Past
from streams.records import Outgoing, Record
from tests.given import AT_US, captured
from topology.cli.dlq_lines import list_lines, show_lines, shown

SCHEMAS = FixedSchemas()


class Post:
    """A log with letters on it, one second after another."""

    def __init__(self) -> None:
        self.now_us = AT_US
        self.log = MemoryLog(lambda: self.now_us, partitions=2)
        self.past = Past(log=self.log, schemas=SCHEMAS, blobs=MemoryBlobStore(), source="the log")

    def letter(
        self,
        value: bytes | None,
        *,
        offset: int = 0,
        processor: str = "assess",
        topic: str = FRAMES,
        key: bytes | None = b"gate-1",
    ) -> int:
        record = Record(topic=topic, partition=0, offset=offset, appended_at_ms=1, key=key, value=value, headers=())
        return self.raw(dead_letter(record, DecodeError("too short\x1b[31m"), processor, self.now_us))

    def raw(self, out: Outgoing) -> int:
        self.now_us += 1_000_000
        return self.log.append_now(out).offset

    def done(self, letter: int, offset: int, *, copy: int | None) -> None:
        source = SourcePosition(topic=COMMANDS, partition=0, offset=letter, index=0)
        told = {
            "source": source,
            "letter_offset": letter,
            "topic": FRAMES,
            "partition": 0,
            "offset": offset,
            "processor": "assess",
        }
        who = {"command_id": EventId(ids.named_id("c")), "issued_by": "ana", "reason": "why"}
        event = (
            LetterDiscarded(event_id=ids.event_id(source, "x"), **told, **who, discarded_at_us=AT_US)  # type: ignore[arg-type]
            if copy is None
            else LetterRedriven(  # type: ignore[arg-type]
                event_id=ids.event_id(source, "x"), **told, **who, copy_offset=copy, attempt=1, redriven_at_us=AT_US
            )
        )
        self.raw(Outgoing(topic=REDRIVES, key=b"k", value=encode(event, SCHEMAS), headers=(), partition=0))

    def states(self, wanted: Wanted = Wanted()) -> list[tuple[int, str, int | None]]:
        return [(c.letter.offset, c.state, c.other) for c in cases(self.past, wanted)]


def test_each_letter_says_what_became_of_it() -> None:
    """Open, the same case twice, discarded, redriven, and redriven and failed again, with the newer letter's number."""
    post = Post()
    for offset in (0, 0, 1, 2, 3, 9):
        post.letter(b"\x01", offset=offset)
    post.done(2, 1, copy=None)
    post.done(3, 2, copy=7)
    post.done(4, 3, copy=9)
    assert post.states() == [
        (0, "open", None),
        (1, "same as", 0),
        (2, "discarded", None),
        (3, "redriven", None),
        (4, "failed again", 5),
        (5, "open", None),
    ]
    assert [(c.state, c.other) for n in range(6) if (c := case_at(post.past, n)) is not None][4:] == [
        ("failed again", 5),
        ("open", None),
    ]


def test_letters_are_chosen_by_class_device_processor_and_time() -> None:
    """The device is the decoded event's, or the key's when there is no event; both ends of the time are in."""
    post = Post()
    post.letter(encode(captured(device="gate-7"), SCHEMAS), key=b"\xff\xfe")
    post.letter(b"\x01", offset=1, key=b"gate-8")
    post.letter(b"\x01", offset=2, processor="infer", topic=ASSESSMENTS, key=None)
    assert [n for n, _, _ in post.states(Wanted(device="gate-7"))] == [0]
    assert [n for n, _, _ in post.states(Wanted(device="gate-8"))] == [1]
    assert [n for n, _, _ in post.states(Wanted(processor="infer"))] == [2]
    assert [n for n, _, _ in post.states(Wanted(error_class="DecodeError"))] == [0, 1, 2]
    assert post.states(Wanted(error_class="KeyError")) == []
    assert [n for n, _, _ in post.states(Wanted(from_us=AT_US + 2_000_000, to_us=AT_US + 2_000_000))] == [1]


_NASTY = [
    Outgoing(topic=DEAD_LETTERS, key=None, value=None, headers=(), partition=0),
    Outgoing(topic=DEAD_LETTERS, key=b"\xff", value=b"\x00" * 3000, headers=(("hindsight_dlq_topic", b"\xff\xfe"),), partition=0),
    Outgoing(
        topic=DEAD_LETTERS,
        key=b"k",
        value=b"x",
        headers=tuple(
            (f"hindsight_dlq_{n}", b"vision.frames" if n == "topic" else b"-1") for n in ("topic", "partition", "offset")
        ),
        partition=0,
    ),
    Outgoing(
        topic=DEAD_LETTERS,
        key=b"k",
        value=None,
        headers=(
            ("hindsight_dlq_topic", b"vision.frames"),
            ("hindsight_dlq_partition", b"9" * 40),
            ("hindsight_dlq_processor", b"assess\n\x1b[2J"),
            ("hindsight_dlq_left_out_value_bytes", b"99999999"),
            ("hindsight_redrive_command", b"x"),
        ),
        partition=0,
    ),
]


@pytest.mark.parametrize("out", _NASTY)
def test_whatever_lies_there_is_listed_and_shown(out: Outgoing) -> None:
    """Letters that no program of ours wrote raise nothing, print no control signs, and say what to do."""
    post = Post()
    post.raw(out)
    found = cases(post.past, Wanted())
    case = case_at(post.past, 0)
    assert case is not None
    told = shown(post.past, case, "UTC", attempts_max=3)
    assert json.loads(json.dumps(told))["do"]
    for line in (*list_lines(found, "UTC", "all"), *show_lines(told)):
        assert all(sign.isprintable() for sign in line.replace("\n", "")), line


def test_what_to_do_is_said_for_each_kind() -> None:
    """A view is rebuilt, a command given again, what cannot be decoded mended first, and what was done needs nothing."""
    post = Post()
    post.letter(b"\x01", processor="device_frames", topic=ASSESSMENTS)
    post.letter(b"\x01", processor="release", topic=COMMANDS)
    post.letter(b"\x01", offset=1)
    post.letter(b"\x01", offset=2)
    post.done(3, 2, copy=None)
    expected = ["hindsight views rebuild device_frames", "gives it again", "schema registry", "discarded"]
    for number, words in enumerate(expected):
        case = case_at(post.past, number)
        assert case is not None
        assert words in str(shown(post.past, case, "UTC", attempts_max=3)["do"])
    assert case_at(post.past, 4) is None
    assert case_at(post.past, -1) is None


def test_a_letter_of_an_earlier_ones_case_is_told_so_wherever_one_looks() -> None:
    """In a list that begins after the first of them, and when it is shown alone."""
    post = Post()
    for offset in (0, 1, 0):
        post.letter(b"\x01", offset=offset)
    assert post.states(Wanted(from_us=AT_US + 2_000_000)) == [(1, "open", None), (2, "same as", 0)]
    case = case_at(post.past, 2)
    assert case is not None
    assert (case.state, case.other) == ("same as", 0)
    assert "letter 0" in shown(post.past, case, "UTC", attempts_max=3)["do"]
