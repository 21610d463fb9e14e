"""The session's stack with the models in it, and deployments on it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from streams.names import Namespace
from tests.e2e.deployment import CHECKOUT, Deployment
from topology.stack.local import LocalStack
from triton_models.repository import build_repository
from triton_models.weights import fetch_weights

Deploy = Callable[..., Deployment]


@pytest.fixture(scope="session")
def serving_stack(stack: LocalStack) -> LocalStack:
    """The real servers, with both releases of the reference pipeline in Triton's repository, none loaded yet."""
    weights = CHECKOUT / ".hindsight" / "servers" / "weights"
    fetch_weights(weights, say=print)
    build_repository(stack.layout.model_repository, weights)
    return stack


@pytest.fixture
def deploy(serving_stack: LocalStack, namespace: Namespace, tmp_path: Path) -> Iterator[Deploy]:
    """Makes deployments of the test's own namespace; their workers end with the test."""
    with ExitStack() as closing:

        def made(launcher: Sequence[str] = ("-m", "topology.cli")) -> Deployment:
            return closing.enter_context(Deployment(serving_stack, namespace, tmp_path, launcher))

        yield made


@pytest.fixture
def deployment(deploy: Deploy) -> Deployment:
    """One deployment, with no workers yet."""
    return deploy()
