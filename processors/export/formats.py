"""The formats by name and by the ending of a file."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

from processors.export.window import CHAIN
from processors.export.writing import Export
from schemas.catalogue import FRAMES, RESULTS
from schemas.errors import ConfigurationError

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "mcap": "processors.export.mcap_file",
        "rrd": "processors.export.rerun_file",
        "jsonl": "processors.export.json_lines",
        "mp4": "processors.export.video_files",
        "parquet": "processors.export.parquet_files",
    }
)
# The topics whose records a format reads one by one: how long it will take is told by them.
COUNTED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"mcap": CHAIN, "rrd": CHAIN, "jsonl": CHAIN, "mp4": (FRAMES,), "parquet": (RESULTS, FRAMES)}
)
_ENDINGS = {**{f".{name}": name for name in MODULES}, ".ndjson": "jsonl"}


def export_of(name: str) -> Export:
    """The export of a format in MODULES."""
    return cast(Export, importlib.import_module(MODULES[name]).export)


def format_of(file: Path) -> str:
    """The format that a file's ending stands for.

    Raises:
        ConfigurationError: none has this ending.
    """
    found = _ENDINGS.get(file.suffix.lower())
    if found is None:
        raise ConfigurationError(
            f"{file.name} has no ending that names a format", setting="--as", do=f"add --as {' or '.join(MODULES)}"
        )
    return found
