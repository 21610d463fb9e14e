"""The files of a model version as events name them: their digest as one, and which paths are allowed.

The digest is the one that running models report (`triton_models.steps.digest`), here from the files' own digests and
without a disk; a test holds the two together.
"""

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

from schemas.types import ModelFile


def digest_of(files: Iterable[ModelFile]) -> str:
    """sha256 in hex over the lines "<path>\\0<sha256 of the content>\\n", sorted by path."""
    total = hashlib.sha256()
    for path, sha256 in sorted((file.path, file.blob.sha256) for file in files):
        total.update(f"{path}\0{sha256}\n".encode())
    return total.hexdigest()


def problem_with(files: tuple[ModelFile, ...]) -> str | None:
    """Why no model version can have these files; None when one can.

    Paths come from the log, where anybody may have written them, and name places on a disk.
    """
    if not files:
        return "a model version has at least one file"
    for file in files:
        path = PurePosixPath(file.path)
        plain = path.as_posix() == file.path and not path.is_absolute() and path.parts and ".." not in path.parts
        if not plain or "\\" in file.path or "\0" in file.path:
            return f"{file.path!r} is no path inside a model version's folder"
    paths = {file.path for file in files}
    if len(paths) != len(files):
        return "a path is named twice"
    inside = [p for p in paths if any(str(parent) in paths for parent in PurePosixPath(p).parents)]
    return f"{min(inside)!r} lies inside what is itself a file" if inside else None
