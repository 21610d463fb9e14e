"""What tests share: one real stack a session, and a namespace of its own for each test that uses it."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from streams.names import Namespace
from topology.stack.local import LocalStack

CHECKOUT = Path(__file__).resolve().parent.parent
SERVERS = ("kafka", "registry", "redis", "s3", "triton")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Real Kafka, registry, Redis, S3 and Triton on free ports; data and logs go with the session."""
    home = tmp_path_factory.mktemp("stack")
    with LocalStack(
        home, servers=SERVERS, ports="free", servers_folder=CHECKOUT / ".hindsight" / "servers", owned=True, say=print
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A command that a test calls in this process may send logs to a stream that ends with it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def namespace() -> Namespace:
    """Topics, subjects, groups, keys and buckets that no other test has."""
    return Namespace(f"t{uuid.uuid4().hex[:8]}")
