"""The data keys of encrypted blobs: one tree of keys a device and UTC day, wrapped by the master key, in a bucket of its own.

    keys/<device>/<day>/<id>     the tree's nodes that are left (`streams/key_tree.py`), under AES-256-GCM

Two writers that begin a day at once make two keys, and both hold: nothing is ever overwritten but by an erasure. Destroying
is cutting a stretch out of the tree, or removing the object when nothing is left; readers ask for the key each time, so
that this holds everywhere at once. The bucket must forget what it removes: no backups that outlive an order.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

from schemas.errors import ConfigurationError, DigestError
from streams import key_tree
from streams.blob_names import KEYS, Place, first_us_of, folder_of, is_data_key
from streams.ports import Objects

MASTER_KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 12
_MOST_BYTES = 64 * 1024 * 1024
_WRITER_KEEPS_S = 60.0
_WRITER_KEEPS = 10_000


class KeyRing:
    """Makes, finds and destroys data keys.

    Args:
        master_key: 32 bytes; empty where none is configured, and then nothing encrypted can be read or written.
    """

    def __init__(self, objects: Objects, master_key: bytes) -> None:
        self._objects = objects
        self._master_key = master_key
        self._lock = Lock()
        self._turns = tuple(Lock() for _ in range(64))
        self._writing: OrderedDict[tuple[str, str], tuple[float, str, key_tree.Nodes]] = OrderedDict()

    def to_write(self, place: Place) -> tuple[str, bytes]:
        """The id of a data key that can still make this leaf, and the leaf's key; made when there is none.

        Raises:
            BlobStoreUnavailableError: the keys' bucket does not answer.
            ConfigurationError: there is no master key.
        """
        day = (place.device, place.day)
        with self._turns[hash(day) % len(self._turns)]:  # one thread asks, and the others find what it found
            with self._lock:
                kept = self._writing.get(day)
            if kept is not None and time.monotonic() - kept[0] < _WRITER_KEEPS_S:
                key = key_tree.leaf(kept[2], place.leaf)
                if key is not None:
                    return kept[1], key
            key_id, nodes = self._find_or_make(place)
            with self._lock:
                self._writing[day] = (time.monotonic(), key_id, nodes)
                while len(self._writing) > _WRITER_KEEPS:
                    self._writing.popitem(last=False)
        key = key_tree.leaf(nodes, place.leaf)
        assert key is not None, "a key that cannot make the leaf is not chosen"
        return key_id, key

    def to_read(self, key_id: str, leaf: int) -> bytes | None:
        """The key of one leaf; None when it was destroyed.

        Raises:
            BlobStoreUnavailableError, ConfigurationError: as `to_write`.
            DigestError: what lies there is no key of ours.
        """
        nodes = self._load(key_id)
        return None if nodes is None else key_tree.leaf(nodes, leaf)

    def destroy(self, device_id: str, from_us: int, to_us: int) -> tuple[str, ...]:
        """Cut [from, to) out of every key of the device; gives the ids of the keys that it concerned, destroyed now or before.

        Raises:
            BlobStoreUnavailableError, ConfigurationError, DigestError: as `to_read`; it may be done in part.
        """
        concerned = []
        for key_id, first, end in self._in_range(device_id, from_us, to_us):
            concerned.append(key_id)
            if first <= 0 and end >= key_tree.DAY_US:
                self._objects.remove(_object(key_id))
                continue
            while (nodes := self._load(key_id)) is not None and key_tree.has_any(nodes, first, end):
                self._store(key_id, key_tree.without(nodes, first, end))
        return tuple(concerned)

    def _find_or_make(self, place: Place) -> tuple[str, key_tree.Nodes]:
        prefix = f"{place.device}/{place.day}/"
        for name in sorted(self._objects.list(_object(prefix))):
            key_id = name.removeprefix(_object(""))
            nodes = self._load(key_id) if is_data_key(key_id) else None
            if nodes is not None and key_tree.leaf(nodes, place.leaf) is not None:
                return key_id, nodes
        key_id, nodes = f"{prefix}{os.urandom(16).hex()}", key_tree.root(os.urandom(key_tree.KEY_BYTES))
        self._store(key_id, nodes)
        return key_id, nodes

    def _in_range(self, device_id: str, from_us: int, to_us: int) -> Iterator[tuple[str, int, int]]:
        """Keys of the days that [from, to) touches, with the stretch of each."""
        for name in list(self._objects.list(_object(f"{folder_of(device_id)}/"))):
            key_id = name.removeprefix(_object(""))
            if not is_data_key(key_id):
                continue
            day_us = first_us_of(key_id)
            first, end = max(0, from_us - day_us), min(key_tree.DAY_US, to_us - day_us)
            if first < end:
                yield key_id, first, end

    def _load(self, key_id: str) -> key_tree.Nodes | None:
        name = _object(key_id)
        sealed = self._objects.read(name, _MOST_BYTES)
        if sealed is None:
            return None
        packed = opened(self._master(), sealed, name.encode())
        if packed is None:
            raise DigestError(
                f"data key {key_id} does not open under this master key", do="set blobs.master_key to the one that made it"
            )
        return key_tree.unpack(packed)

    def _store(self, key_id: str, nodes: key_tree.Nodes) -> None:
        name = _object(key_id)
        if nodes:
            self._objects.write(
                name, sealed_bytes(self._master(), key_tree.pack(nodes), name.encode()), "application/octet-stream"
            )
        else:
            self._objects.remove(name)

    def _master(self) -> bytes:
        if not self._master_key:
            raise ConfigurationError(
                "this blob is encrypted, and there is no master key",
                setting="blobs.master_key",
                do="set HINDSIGHT_BLOBS__MASTER_KEY to the key that the gateways have",
            )
        return self._master_key


def sealed_bytes(key: bytes, plain: bytes, name: bytes) -> bytes:
    """AES-256-GCM with a nonce of its own, bound to the name it is kept under."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, plain, name)


def opened(key: bytes, sealed: bytes, name: bytes) -> bytes | None:
    """The plain bytes; None when they were not sealed by this key under this name."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    start = len(_VERSION) + _NONCE_BYTES
    if not sealed.startswith(_VERSION) or len(sealed) < start + 16:
        return None
    try:
        return AESGCM(key).decrypt(sealed[len(_VERSION) : start], sealed[start:], name)
    except InvalidTag:
        return None


def _object(key_id: str) -> str:
    return f"{KEYS}{key_id}"
