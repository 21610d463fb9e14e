"""The digest of a model version's folder, for everything outside the model processes.

Owns only the digest of files that are not written yet. The running model and the repository must compute one thing, so
the rest is the steps' own; a file there is part of every model version, so nothing that a step does not need lies there.

Next: `repository` compares folders by it, releases pin it.
"""

import hashlib
from collections.abc import Mapping

from .steps.digest import file_sha256, model_digest, model_files

__all__ = ["contents_digest", "file_sha256", "model_digest", "model_files"]


def contents_digest(contents: Mapping[str, bytes]) -> str:
    """What `model_digest` would say of a folder that holds just these files, by relative path."""
    total = hashlib.sha256()
    for path in sorted(contents):
        total.update(f"{path}\0{hashlib.sha256(contents[path]).hexdigest()}\n".encode())
    return total.hexdigest()
