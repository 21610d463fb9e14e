"""What is cut out of the tree of keys can never be made again, and everything else can, as before."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.key_tree import DAY_US, DEPTH, Node, has_any, leaf, pack, root, unpack, without

WHOLE = root(bytes(range(32)))
LEAVES = st.integers(0, DAY_US - 1)
STRETCHES = st.tuples(st.integers(0, DAY_US), st.integers(0, DAY_US)).map(lambda s: (min(s), max(s)))


@given(st.lists(STRETCHES, max_size=5), st.lists(LEAVES, max_size=20))
def test_what_is_cut_is_gone_and_the_rest_is_as_it_was(stretches: list[tuple[int, int]], others: list[int]) -> None:
    """For any cuts in any order, and for leaves on both sides of every edge."""
    left = WHOLE
    for first, end in stretches:
        left = without(left, first, end)
    edges = [at for stretch in stretches for edge in stretch for at in (edge - 1, edge, edge + 1)]
    for at in [*others, *(e for e in edges if 0 <= e < DAY_US)]:
        cut = any(first <= at < end for first, end in stretches)
        assert leaf(left, at) == (None if cut else leaf(WHOLE, at))
        assert has_any(left, at, at + 1) != cut
    assert len(left) <= 1 + 2 * DEPTH * len(stretches)


@given(st.lists(STRETCHES, max_size=5), LEAVES)
def test_no_key_that_is_left_leads_to_a_leaf_that_was_cut(stretches: list[tuple[int, int]], at: int) -> None:
    """None of the nodes left lies on the way from the root to a leaf that was cut."""
    left = WHOLE
    for first, end in stretches:
        left = without(left, first, end)
    if any(first <= at < end for first, end in stretches):
        way = {(depth, at >> (DEPTH - depth)) for depth in range(DEPTH + 1)}
        assert way.isdisjoint((node.depth, node.index) for node in left)


def test_a_leaf_is_what_the_page_says() -> None:
    """HMAC-SHA256 down the bits of the microsecond, the highest first: others can open what we sealed."""
    at, key = 47_123_456_789, WHOLE[0].key
    for depth in range(DEPTH):
        key = hmac.digest(key, bytes([at >> (DEPTH - depth - 1) & 1]), hashlib.sha256)
    assert leaf(WHOLE, at) == key
    assert len({leaf(WHOLE, n) for n in range(1000)}) == 1000


def test_a_whole_day_leaves_nothing() -> None:
    """Also when it is cut in two halves, and the leaves that no day has go with its end."""
    assert without(WHOLE, 0, DAY_US) == ()
    assert without(without(WHOLE, 0, 5), 5, DAY_US) == ()
    assert without(WHOLE, 5, 5) == WHOLE


@given(st.lists(STRETCHES, max_size=3))
def test_nodes_survive_their_bytes(stretches: list[tuple[int, int]]) -> None:
    left = WHOLE
    for first, end in stretches:
        left = without(left, first, end)
    assert unpack(pack(left)) == left


def test_a_nodes_key_is_not_shown() -> None:
    """Keys stay out of logs and traces."""
    assert "key" not in repr(Node(depth=0, index=0, key=b"secret" * 6))
    with pytest.raises(ValueError, match="no whole number"):
        unpack(b"x")
