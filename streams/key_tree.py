"""Keys over the microseconds of one day, as a tree of which any stretch can be cut out for good. Pure.

Every node's key gives the keys of its two children by HMAC-SHA256, and a leaf's key is that of one microsecond. Who holds
the root can make every leaf. To destroy the leaves of a stretch, the nodes above it are replaced by the few nodes beside
it that cover the rest (at most 74 more): from those, no leaf of the stretch can be made, while every other one can,
and nothing has to be encrypted again. (A puncturable pseudo-random function after Goldreich, Goldwasser and Micali.)
"""

import hashlib
import hmac
from dataclasses import dataclass, field

DAY_US = 24 * 3600 * 1_000_000
DEPTH = (DAY_US - 1).bit_length()
KEY_BYTES = 32
_NODE_BYTES = 1 + 8 + KEY_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A key of the tree: it covers 2 ** (DEPTH - depth) leaves, the `index`-th stretch of that length."""

    depth: int
    index: int
    key: bytes = field(repr=False)

    @property
    def first(self) -> int:
        return self.index << (DEPTH - self.depth)

    @property
    def end(self) -> int:
        return (self.index + 1) << (DEPTH - self.depth)


Nodes = tuple[Node, ...]


def root(key: bytes) -> Nodes:
    """The whole tree, from 32 random bytes."""
    return (Node(depth=0, index=0, key=key),)


def leaf(nodes: Nodes, at: int) -> bytes | None:
    """The key of one leaf (0 to DAY_US - 1); None when it was cut out."""
    node = next((n for n in nodes if n.first <= at < n.end), None)
    if node is None:
        return None
    while node.depth < DEPTH:
        node = _child(node, at >> (DEPTH - node.depth - 1) & 1)
    return node.key


def without(nodes: Nodes, first: int, end: int) -> Nodes:
    """What is left when the leaves from `first` up to, and not including, `end` are cut out; empty when nothing is."""
    if first >= end:
        return nodes
    # Leaves after the day's last microsecond are nobody's: they go with the day's end, so that nothing is left of a whole day.
    end = 1 << DEPTH if end >= DAY_US else end
    return tuple(left for node in nodes for left in _without(node, first, end))


def has_any(nodes: Nodes, first: int, end: int) -> bool:
    """Whether a leaf of the stretch can still be made."""
    return any(n.first < end and first < n.end for n in nodes)


def pack(nodes: Nodes) -> bytes:
    return b"".join(bytes([n.depth]) + n.index.to_bytes(8, "big") + n.key for n in nodes)


def unpack(packed: bytes) -> Nodes:
    """The nodes back.

    Raises:
        ValueError: these are no nodes.
    """
    if len(packed) % _NODE_BYTES:
        raise ValueError(f"{len(packed)} bytes are no whole number of nodes")
    pieces = (packed[at : at + _NODE_BYTES] for at in range(0, len(packed), _NODE_BYTES))
    return tuple(Node(depth=p[0], index=int.from_bytes(p[1:9], "big"), key=p[9:]) for p in pieces)


def _without(node: Node, first: int, end: int) -> list[Node]:
    if node.end <= first or end <= node.first:
        return [node]
    if first <= node.first and node.end <= end:
        return []
    return [left for bit in (0, 1) for left in _without(_child(node, bit), first, end)]


def _child(node: Node, bit: int) -> Node:
    key = hmac.digest(node.key, bytes([bit]), hashlib.sha256)
    return Node(depth=node.depth + 1, index=node.index * 2 + bit, key=key)
