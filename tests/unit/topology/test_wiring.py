"""Clients as the composition root builds them."""

import pytest

from schemas.errors import BlobStoreUnavailableError
from topology import wiring
from topology.settings import S3Settings, Settings


def test_an_s3_server_that_is_away_is_told_of_by_the_error_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The client's own tries are not logged: a worker that waits for minutes says so once a try of its own."""
    blobs = wiring.blob_store(Settings(s3=S3Settings(endpoint="127.0.0.1:1")))
    with pytest.raises(BlobStoreUnavailableError):
        blobs.put(b"x", "image/png")
    assert caplog.records == []
