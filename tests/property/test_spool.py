"""The spool's promises, over any interleaving of offering, sending, acknowledging, reopening and dying."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.edge.entries import Capture, SpooledDrop, SpooledFrame
from streams.edge.spool import Spool

LIMIT_BYTES = 10_000


class SpoolMachine(RuleBasedStateMachine):
    """A spool beside a model of it: what was offered, what the far side got, what was noticed as dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.offered: dict[int, bytes] = {}
        self.acked: set[int] = set()
        self.dropped_acked: list[tuple[int, int]] = []
        self.handed_out: dict[int, object] = {}
        self.cursor = -1

    @initialize(drop=st.sampled_from(["oldest", "newest", "block"]))
    def open(self, drop: str) -> None:
        self.drop = drop
        self.spool = Spool(self.folder, device_id="gate-1", limit_bytes=LIMIT_BYTES, drop=drop)  # type: ignore[arg-type]
        self.session_id = self.spool.session_id

    @rule(size=st.integers(1, 4_000))
    def offer(self, size: int) -> None:
        sequence = self.spool.next_sequence
        image = sequence.to_bytes(4, "big") * (size // 4 + 1)
        spooled = self.spool.offer(Capture(image=image, captured_at_us=sequence, mark=f"at {sequence}"))
        if spooled is None:
            assert self.drop == "block"
            assert self.spool.next_sequence == sequence
            return
        assert spooled.sequence == sequence == len(self.offered)
        self.offered[sequence] = image

    @rule(frames=st.integers(1, 5), size=st.integers(100, 6_000))
    def take(self, frames: int, size: int) -> None:
        taken = self.spool.take(self.cursor, frames=frames, size_bytes=size)
        assert [e.sequence for e in taken] == sorted(e.sequence for e in taken)
        for entry in taken:
            assert entry.sequence > self.cursor
            if isinstance(entry, SpooledFrame):
                assert entry.image == self.offered[entry.sequence]
            # What was handed out once may be with the gateway: it must never change or go.
            assert self.handed_out.setdefault(entry.sequence, entry) == entry
            self.cursor = entry.last_sequence if isinstance(entry, SpooledDrop) else entry.sequence

    @precondition(lambda self: self.handed_out)
    @rule(draw=st.data())
    def acknowledge(self, draw: st.DataObject) -> None:
        sequences = draw.draw(st.lists(st.sampled_from(sorted(self.handed_out)), unique=True))
        self.spool.remove(tuple(sequences))
        for sequence in sequences:
            entry = self.handed_out.pop(sequence)
            if isinstance(entry, SpooledDrop):
                self.dropped_acked.append((entry.sequence, entry.last_sequence))
            else:
                self.acked.add(sequence)

    @rule()
    def connect_again(self) -> None:
        self.cursor = -1

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.spool = Spool(self.folder, device_id="gate-1", limit_bytes=LIMIT_BYTES, drop=self.drop)  # type: ignore[arg-type]
        self.cursor = -1
        assert self.spool.session_id == self.session_id
        assert self.spool.next_sequence == len(self.offered)
        assert self.spool.mark == (f"at {len(self.offered) - 1}" if self.offered else "")

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        """Spooled, acknowledged and noticed as dropped add up to what was offered; the bytes stay in their bound."""
        if not hasattr(self, "spool"):
            return
        contents = self.spool.contents()
        noticed = sum(last - first + 1 for first, last in self.dropped_acked)
        assert contents.frames_count + contents.dropped_count + len(self.acked) + noticed == len(self.offered)
        assert contents.bytes_used <= LIMIT_BYTES

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            seen = self.drain()
            assert sorted(seen) == list(range(len(self.offered)))
            self.spool.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)

    def drain(self) -> list[int]:
        """Every sequence number, each once: acknowledged, noticed, or handed out now."""
        seen = [*self.acked, *(n for first, last in self.dropped_acked for n in range(first, last + 1))]
        after = -1
        while taken := self.spool.take(after, frames=10, size_bytes=5_000):
            for entry in taken:
                after = entry.last_sequence if isinstance(entry, SpooledDrop) else entry.sequence
                seen += range(entry.sequence, after + 1)
        return seen


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
