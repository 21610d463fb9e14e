"""One digest for everything that decides what a model version answers.

Guarantees: the same files give the same digest on every machine; a changed byte, a renamed, added or removed file
changes it. Compiled Python beside its source is left out, because it follows from the source.

Next: `run` reports it with every frame; `repository` and the release registry compare it with what they expect.
"""

import hashlib
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def model_digest(version_dir: Path) -> str:
    """Digest of a model version's folder.

    Args:
        version_dir: For instance `<repository>/detection/3`.
    Returns:
        sha256 in hex over the lines "<relative path>\\0<sha256 of the content>\\n", sorted by path.
    Raises:
        FileNotFoundError: No such folder.
    """
    if not version_dir.is_dir():
        raise FileNotFoundError(version_dir)
    total = hashlib.sha256()
    for path in sorted(path.relative_to(version_dir).as_posix() for path in model_files(version_dir)):
        total.update(f"{path}\0{file_sha256(version_dir / path)}\n".encode())
    return total.hexdigest()


def model_files(version_dir: Path) -> list[Path]:
    """The files that the digest covers, in no particular order."""
    return [path for path in version_dir.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def file_sha256(path: Path) -> str:
    """sha256 of a file's content, in hex."""
    content = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            content.update(chunk)
    return content.hexdigest()
