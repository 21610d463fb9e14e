"""A snapshot and the tail after it are the whole: at every cut, from a chain of snapshots, for any events with repeats."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.lookback.known import known_at
from processors.lookback.true import happened_at_us, true_at
from processors.snapshots import manifest as manifests
from processors.snapshots import pieces, taking
from processors.snapshots.announcing import event_of, kept_as, outgoing
from processors.snapshots.manifest import Manifest
from processors.snapshots.reading import Snapshots
from processors.views.catalogue import VIEWS, View
from processors.views.replay import fold_log
from schemas.catalogue import MONITORING
from schemas.plain import canonical_json
from streams.memory import MemoryBlobStore, MemoryLog
from tests.property.test_views import SCHEMAS, as_log, histories

EVERY_VIEW = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


@st.composite
def repeated_histories(draw: st.DrawFn, topic: str) -> list[Any]:
    """Events of a topic, some tails of which came again, as after a crash."""
    events, again = draw(histories(topic)), []
    for number, event in enumerate(events):
        again.append(event)
        if draw(st.booleans()):
            back = draw(st.integers(0, number))
            again += [e for e in events[back : number + 1] if getattr(e, "source", None) is not None]
    return again


def states_of(manifest: Manifest, blobs: MemoryBlobStore) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for piece in manifest.pieces:
        if piece is not None:
            content = blobs.get(taking.piece_ref(piece))
            states = pieces.states_of(content)
            assert {key: pieces.state_of(content, key) for key in states} == states
            found |= states
    return found


@EVERY_VIEW
def test_a_chain_of_snapshots_equals_the_fold_at_every_cut(view: View[Any]) -> None:
    """Each snapshot onto the one before it, with any number of pieces, has the states, the sources and the digest of the fold."""

    @given(repeated_histories(view.topic), st.sets(st.integers(1, 30)), st.sampled_from([None, 1, 4, 16]))
    def holds(events: list[Any], cuts: set[int], buckets: int | None) -> None:
        log, blobs, base = as_log(events, garbage_at=3), MemoryBlobStore(), None
        for stop in sorted(cut for cut in cuts if cut < log.bounds(view.topic, 0).end):
            base = taking.take(view, log, SCHEMAS, blobs, partition=0, stop=stop, base=base, buckets=buckets).manifest
            whole = fold_log(view, log, SCHEMAS, 0, stop)
            assert states_of(base, blobs) == {key: canonical_json(state) for key, state in whole.states.items()}
            assert (base.seen, base.unreadable, base.keys_count) == (whole.seen, whole.unreadable, len(whole.states))
            fresh = taking.take(view, log, SCHEMAS, MemoryBlobStore(), partition=0, stop=stop, buckets=len(base.pieces))
            assert fresh.manifest.digest == base.digest
            assert manifests.unpack(manifests.pack(base)) == base

    holds()


@EVERY_VIEW
def test_the_state_at_a_moment_is_the_same_from_any_snapshot(view: View[Any]) -> None:
    """Whichever snapshots are announced, a look back at any moment gives what it gives without them."""

    @given(repeated_histories(view.topic), st.sets(st.integers(1, 30)), st.integers(0, 30))
    def holds(events: list[Any], cuts: set[int], after_ms: int) -> None:
        log, blobs = as_log(events), MemoryBlobStore()
        end, at_us = log.bounds(view.topic, 0).end, (1000 + after_ms) * 1000
        keys = sorted({str(k) for e in events if (k := view.key(e)) is not None})
        expected = {key: known_at(log, SCHEMAS, view, key, at_us, partition=0) for key in keys}
        if end:
            announce(log, blobs, view, sorted(cut for cut in cuts if cut < end))
        snapshots = Snapshots(log, SCHEMAS, blobs)
        for key in keys:
            known = known_at(log, SCHEMAS, view, key, at_us, snapshots=snapshots, partition=0)
            without = expected[key]
            if view.topic != MONITORING:
                assert known.read_up_to == without.read_up_to
            assert known.state == without.state
            assert known.notes == ()

    holds()


def announce(log: MemoryLog, blobs: MemoryBlobStore, view: View[Any], cuts: Iterable[int]) -> list[Manifest]:
    """Take a chain of snapshots and announce them, long after every event."""
    made: list[Manifest] = []
    kept: tuple[Any, ...] = ()
    log._clock = lambda: 10**15
    for stop in cuts:
        taken = taking.take(view, log, SCHEMAS, blobs, partition=0, stop=stop, base=made[-1] if made else None).manifest
        made.append(replace(taken, earlier=kept))
        ref = blobs.put(manifests.pack(made[-1]), manifests.MEDIA_TYPE)
        kept = (*kept, kept_as(made[-1], ref))
        log.append_now(outgoing(event_of(made[-1], ref, 10**15), SCHEMAS))
    return made


@pytest.mark.parametrize("view", [v for v in VIEWS.values() if v.by_record_key], ids=lambda view: view.name)
def test_what_was_true_is_the_fold_in_the_order_in_which_it_happened(view: View[Any]) -> None:
    """Every event of the key about a time up to T, in that time's order, whenever it was appended; and nothing else."""

    @given(histories(view.topic), st.data())
    def holds(drawn: list[Any], data: st.DataObject) -> None:
        events = [e for e in drawn if view.key(e) is not None and type(e).__name__ != "ResultCorrected"]
        if not events:
            return
        log, at_us = as_log(events), data.draw(st.sampled_from([happened_at_us(e) for e in events]))
        key = str(view.key(events[0]))
        mine = [(happened_at_us(e), n, e) for n, e in enumerate(events) if view.key(e) == key and happened_at_us(e) <= at_us]
        expected = view.initial
        for _, _, event in sorted(mine, key=lambda one: one[:2]):
            expected = view.fold(expected, event)
        found = true_at(log, SCHEMAS, view, key, at_us, partition=0)
        assert found.state == expected
        known_stop = log.offset_at(view.topic, 0, at_us // 1000 + 1)
        assert [one.offset for one in found.late] == [n for _, n, _ in mine if n >= known_stop]

    holds()
