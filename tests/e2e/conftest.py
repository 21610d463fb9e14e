"""The session's stack with the models in it, and deployments on it."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from streams.names import Namespace
from tests.e2e.deployment import ALL, CHECKOUT, Deployment
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
    opened: list[Deployment] = []
    with ExitStack() as stack:

        def made(launcher: Sequence[str] = ("-m", "topology.cli")) -> Deployment:
            opened.append(stack.enter_context(closing(Deployment(serving_stack, namespace, tmp_path, launcher))))
            return opened[-1]

        yield made
        for one in opened:
            print(one.last_lines())


@pytest.fixture
def deployment(deploy: Deploy) -> Deployment:
    """One deployment, with no workers yet."""
    return deploy()


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Deployment]]:
    """Deployments of `running`, the newest last."""
    made: list[Deployment] = []
    yield made
    for one in made:
        one.close()


@pytest.fixture
def running(serving_stack: LocalStack, kept: list[Deployment], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment at work: a release in force, one worker or more. The next test gets it again if this one left it whole."""
    if not kept or not kept[-1].living() or not kept[-1].is_drained():
        fresh = Deployment(serving_stack, Namespace(f"e{uuid.uuid4().hex[:8]}"), tmp_path_factory.mktemp("running"))
        kept.append(fresh)
        fresh.start_workers(ALL)
        fresh.put_in_force()
    yield kept[-1]
    print(kept[-1].last_lines())
