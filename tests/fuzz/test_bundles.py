"""Bundles that were damaged, cut, swapped or forged: everything that reads one ends with an answer or a named error."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from processors.lookback.known import known_at
from processors.views.catalogue import VIEWS
from schemas.catalogue import TOPICS
from schemas.errors import ContractError
from streams.bundle import open_bundle, verify_bundle
from streams.bundle.layout import BLOCK
from tests.bundles import bundled, run_of

MOST_BYTES = 4 << 20
Damage = Callable[[bytearray], None]


@cache
def _whole() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.hsb"
        bundled(run_of(["gate-1", "gate-2"], 4).past(), path)
        return path.read_bytes()


def read_all(path: Path) -> None:
    """What a look back reads: every record, a state, every blob that is named."""
    with open_bundle(path) as past:
        for topic in TOPICS:
            for partition in past.log.partitions(topic):
                bounds = past.log.bounds(topic, partition)
                assert bounds.end - bounds.earliest < 10_000
                for record in past.log.read(topic, partition, bounds.earliest, bounds.end):
                    assert len(record.value or b"") < MOST_BYTES
        known_at(past.log, past.schemas, VIEWS["device_frames"], "gate-1", past.scope.to_us if past.scope else 0)


def hold(content: bytes) -> None:
    """Verifying says that it is not whole, and reading ends with records or a contract error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.hsb"
        path.write_bytes(content)
        try:
            assert content == _whole() or not verify_bundle(path).whole
            read_all(path)
        except ContractError as error:
            assert str(error)  # noqa: PT017  # either end is right
        assert [p.name for p in Path(folder).iterdir()] == ["a.hsb"]


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4))
def test_flipped_bits_are_found(places: list[tuple[float, int]]) -> None:
    """Anywhere, some at once."""
    content = bytearray(_whole())
    for share, bit in places:
        content[int(share * len(content))] ^= 1 << bit
    hold(bytes(content))


@given(st.floats(0, 1), st.binary(max_size=3000))
def test_a_cut_file_with_anything_behind_it_is_refused(share: float, behind: bytes) -> None:
    """Also with zeros, noise, or the end of another bundle behind it."""
    whole = _whole()
    kept = whole[: int(share * len(whole))]
    for tail in (b"", behind, bytes(2 * BLOCK), whole[-4 * BLOCK :]):
        hold(kept + tail)


@given(st.data())
def test_blocks_elsewhere_are_found(data: st.DataObject) -> None:
    """Blocks swapped, doubled and left out: every byte has one right place."""
    whole = _whole()
    blocks = [whole[at : at + BLOCK] for at in range(0, len(whole), BLOCK)]
    first, second = (data.draw(st.integers(0, len(blocks) - 1)) for _ in range(2))
    match data.draw(st.sampled_from(["swap", "double", "drop"])):
        case "swap":
            blocks[first], blocks[second] = blocks[second], blocks[first]
        case "double":
            blocks.insert(second, blocks[first])
        case _:
            del blocks[first]
    hold(b"".join(blocks))


@example(b"")
@example(b"PK\x03\x04" + bytes(5000))
@example(bytes(8 * BLOCK))
@given(st.binary(max_size=6000))
def test_what_is_no_bundle_is_refused(content: bytes) -> None:
    """Nothing, archives of another kind, zeros, noise."""
    hold(content)
