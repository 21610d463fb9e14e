"""Bytes of every event's newest version, kept for ever: `python -m tests.event_bytes` writes those that are not kept yet.

A kept file is never written again: it is what a version wrote when it was new, and `tests/property/test_codec.py` reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

from schemas.avro_files import versions
from schemas.catalogue import EVENT_BY_NAME
from schemas.codec import body_of
from schemas.plain import to_plain

FOLDER = Path(__file__).parent / "fixtures" / "event_bytes"
_AT_US = 1_790_000_000_123_456
_SCALARS: Mapping[Any, Any] = {int: 7, float: 0.625, bool: True}
_UUID = "3f2f9f5e-6a0b-5a37-9d6b-3a70e2a7b347"


def sample(tp: Any, name: str, *, full: bool) -> Any:
    """A value of an annotation; what may be left out is there when `full`."""
    if isinstance(tp, NewType):
        return _UUID if tp.__name__ in ("EventId", "FrameId") else f"{name} é中"
    if tp is str:
        return f"{name} é中"
    if tp is int and name.endswith("_us"):
        return _AT_US if "_at_" in name or name.startswith(("window", "captured")) else 7
    if tp in _SCALARS:
        return _SCALARS[tp]
    if is_dataclass(tp) and isinstance(tp, type):
        hints = get_type_hints(tp)
        return tp(**{f.name: sample(hints[f.name], f.name, full=full) for f in fields(tp)})
    origin, args = get_origin(tp), get_args(tp)
    if origin in (Union, UnionType):
        (inner,) = (arg for arg in args if arg is not NoneType)
        return sample(inner, name, full=full) if full else None
    if origin is tuple:
        return (sample(args[0], name, full=full),) * 2 if full else ()
    return {f"{name} {n}": sample(args[1], name, full=full) for n in range(2)} if full else {}


def main() -> None:
    for event, cls in sorted(EVENT_BY_NAME.items()):
        path = FOLDER / f"{event}.v{versions(event)[-1]}.json"
        if path.exists():
            continue
        kept = [sample(cls, event, full=full) for full in (True, False)]
        plain = [{"avro_hex": body_of(one).hex(), "event": to_plain(one)} for one in kept]
        path.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written: {path.name}")


if __name__ == "__main__":
    main()
