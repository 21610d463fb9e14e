"""Opening a bundle as a `Past`: everything that looks back works on it, with no server at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.bundle.blobs import BundleBlobs
from streams.bundle.file import BundleFile
from streams.bundle.log import BundleLog
from streams.bundle.schemas import BundleSchemas
from streams.past import Past, Scope


@contextmanager
def open_bundle(path: Path) -> Iterator[Past]:
    """The past that a bundle holds, closed afterwards.

    The manifest is held against its digest now, and each entry when it is read. That nobody changed both is what a signature
    is for: `verify_bundle`.

    Raises:
        BundleError: the file is no bundle, is cut short, or its manifest is damaged.
    """
    with BundleFile(path) as file:
        about = file.manifest.about
        yield Past(
            log=BundleLog(file),
            schemas=BundleSchemas(file),
            blobs=BundleBlobs(file),
            source=str(path),
            scope=Scope(from_us=about.from_us, to_us=about.to_us, devices=about.devices, pipeline=about.pipeline),
        )
