"""How blobs and their keys are named, and how bytes are held against the name that they are known by. Pure.

sha256/<aa>/<sha256>             bytes as they are
enc/<key_id>/<sha256>            a device's bytes, encrypted; the digest is of the plain bytes
segments/<day>/<id>              the bytes of many frames, one after another, each plain or encrypted under its own key
keys/<device>/<day>/<id>         a data key, in a bucket of its own; a blob's `key_id` adds the microsecond of the day
"""

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from schemas.errors import ContractError, DigestError
from schemas.types import BlobRef, Stretch
from streams.admission import is_name
from streams.key_tree import DAY_US

PLAIN, SEALED, SEGMENTS, KEYS = "sha256/", "enc/", "segments/", "keys/"
AROUND_SEALED_BYTES = 1 + 12 + 16
"""What encrypting adds: version, nonce, tag."""
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DATA_KEY = re.compile(r"[A-Za-z0-9~][A-Za-z0-9._:-]{0,127}/\d{4}-\d\d-\d\d/[0-9a-f]{32}", re.ASCII)
_SEGMENT = re.compile(rf"{SEGMENTS}\d{{4}}-\d\d-\d\d/[0-9a-f]{{32}}", re.ASCII)
_LEAF = re.compile(r"\d{1,11}", re.ASCII)
_OFFSET_MAX = 2**40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a moment of a device lies: in the tree of keys of a UTC day, and which leaf of it."""

    device: str
    day: str
    leaf: int


def digest(content: bytes) -> str:
    """sha256, 64 lower-case hex digits."""
    return hashlib.sha256(content).hexdigest()


def object_name(sha256: str) -> str:
    """Where plain bytes of that digest lie in the bucket."""
    return f"{PLAIN}{sha256[:2]}/{sha256}"


def name_of(ref: BlobRef) -> str:
    """The object that holds a reference's bytes."""
    if ref.segment is not None:
        return ref.segment.object
    return object_name(ref.sha256) if ref.key_id is None else sealed_as(ref)


def sealed_as(ref: BlobRef) -> str:
    """The name that encrypted bytes are bound to, wherever they lie."""
    return f"{SEALED}{ref.key_id}/{ref.sha256}"


def as_plain(ref: BlobRef) -> BlobRef:
    """The reference to the same bytes in an object of their own, not encrypted."""
    return replace(ref, key_id=None, segment=None)


def hold_name(ref: BlobRef) -> None:
    """Names come from the log, where anybody may have written them; S3 is asked for digests only.

    Raises:
        DigestError: it is none.
    """
    if not _SHA256.fullmatch(ref.sha256):
        raise DigestError(f"{ref.sha256[:80]!r} is not a sha256 of 64 lower-case hex digits")


def segment_name(at_s: float, drawn: bytes) -> str:
    """A new segment's name.

    Args:
        at_s: Seconds since the epoch.
        drawn: 16 random bytes.
    """
    return f"{SEGMENTS}{(_EPOCH + timedelta(seconds=at_s)).date()}/{drawn.hex()}"


def hold_segment(ref: BlobRef) -> Stretch:
    """The stretch that a reference names, which anybody may have written.

    Raises:
        DigestError: it is none, or has another length than the bytes.
    """
    found, around = ref.segment, 0 if ref.key_id is None else AROUND_SEALED_BYTES
    is_one = found is not None and _SEGMENT.fullmatch(found.object) and 0 <= found.offset <= _OFFSET_MAX
    if found is None or not is_one or found.length != ref.size_bytes + around or found.length <= 0:
        raise DigestError(f"{str(found)[:160]} is not a stretch of a segment with the {ref.size_bytes} bytes of {ref.sha256}")
    return found


def verify(content: bytes, ref: BlobRef) -> None:
    """Hold bytes against the reference that names them.

    Raises:
        DigestError: they are something else.
    """
    if len(content) != ref.size_bytes or digest(content) != ref.sha256:
        raise DigestError(f"blob {ref.sha256}: {len(content)} bytes with digest {digest(content)} were found in its place")


def hold_key(ref: BlobRef) -> tuple[str, int]:
    """The data key and the leaf that an encrypted blob's reference names.

    Raises:
        DigestError: it names none.
    """
    data_key, _, leaf = (ref.key_id or "").rpartition("/")
    if not is_data_key(data_key) or not _LEAF.fullmatch(leaf):
        raise DigestError(f"{(ref.key_id or '')[:160]!r} is not the id of a blob's key")
    return data_key, int(leaf)


def is_data_key(text: str) -> bool:
    """Whether a text can name a data key: it may come from a record that anybody wrote."""
    if not _DATA_KEY.fullmatch(text):
        return False
    try:
        first_us_of(text)
    except ValueError:
        return False
    return True


def place_of(device_id: str, at_us: int) -> Place:
    """The place of a capture, microseconds since the epoch.

    Raises:
        ContractError: no calendar has it.
    """
    day, leaf = divmod(at_us, DAY_US)
    try:
        return Place(device=folder_of(device_id), day=str((_EPOCH + timedelta(days=day)).date()), leaf=leaf)
    except OverflowError as error:
        raise ContractError(f"captured_at_us {at_us} is in no year from 1 to 9999") from error


def moment_of(ref: BlobRef, device_id: str) -> int | None:
    """When the capture of an encrypted blob was made, by its key's name; None when it is not this device's."""
    try:
        data_key, leaf = hold_key(ref)
    except DigestError:
        return None
    return first_us_of(data_key) + leaf if data_key.split("/")[0] == folder_of(device_id) else None


def first_us_of(data_key: str) -> int:
    """The first microsecond of a data key's day, since the epoch.

    Raises:
        ValueError: no calendar has the day.
    """
    return (datetime.fromisoformat(data_key.split("/")[1]).replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def folder_of(device_id: str) -> str:
    """The device's part of a name: itself, or, where it holds signs that a path cannot, its digest."""
    return device_id if is_name(device_id) else f"~{hashlib.sha256(device_id.encode()).hexdigest()}"
