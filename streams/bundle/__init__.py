"""Incident bundles: a window of the log with all that answers about it need, in one file. docs/reference/bundle-format.md.

`writer` writes one from front to back, `reading` opens one as a `Past`, `verify` holds one against itself byte for byte.
`layout`, `manifest` and `segments` say what the bytes are. What belongs into a bundle is chosen by processors.bundling.
"""

from streams.bundle.reading import open_bundle
from streams.bundle.verify import Damage, Verified, verify_bundle

__all__ = ["Damage", "Verified", "open_bundle", "verify_bundle"]
