"""The digest of a model version's folder, for everything outside the model processes.

Owns nothing: the running model and the repository must compute one thing, so this is the steps' own function.

Next: `repository` compares folders by it, releases pin it.
"""

from .steps.digest import file_sha256, model_digest, model_files

__all__ = ["file_sha256", "model_digest", "model_files"]
