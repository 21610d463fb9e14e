"""The running digest of a view's partition: what a view store says that it holds, kept as states change.

It is the exclusive or of one digest a key, so it does not matter in which order keys came, and a changed state moves it by
two small steps. Redis keeps it inside the script that writes the states, and Redis has SHA-1 only: it finds faults,
and is no seal against somebody who can write to Redis. For that, the views are held against the log
(`processors/views/checking.py`).
"""

import hashlib
from collections.abc import Mapping

_BYTES = 20
EMPTY = "0" * 2 * _BYTES


def toggled(digest: str, key: str, state: bytes) -> str:
    """The digest with one key's state put in, or taken out when it was in; 40 hex digits."""
    return _shown(int(digest, 16) ^ _of_one(key, state))


def digest_of(states: Mapping[str, bytes]) -> str:
    """The digest of all these states, made from nothing."""
    digest = 0
    for key, state in states.items():
        digest ^= _of_one(key, state)
    return _shown(digest)


def _of_one(key: str, state: bytes) -> int:
    name = key.encode()
    return int.from_bytes(hashlib.sha1(b"%d:%b%b" % (len(name), name, state), usedforsecurity=False).digest(), "big")


def _shown(digest: int) -> str:
    return f"{digest:0{2 * _BYTES}x}"
