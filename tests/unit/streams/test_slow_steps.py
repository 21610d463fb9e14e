"""slow_steps: a timeout names the model that kept it, where the server's counts say so, and nobody where they do not."""

import asyncio
from collections.abc import Mapping

import pytest

from schemas.errors import InferenceTimeoutError, InferenceUnavailableError
from streams.ports import Answer, StepTime
from streams.slow_steps import NamingSlowSteps, slow_model
from tests.simulation import virtual_time

STEPS = ("load", "detect", "read")


def counted(*through: int, failed: tuple[int, ...] = (0, 0, 0, 0), busy: tuple[int, ...] | None = None) -> tuple[StepTime, ...]:
    """Counts of the three steps and of the ensemble; each frame costs a step one unit unless told otherwise."""
    spent = busy or tuple(n * 10 for n in through)
    return tuple(
        StepTime(model=m, through_count=n, failed_count=f, busy_ns=b)
        for m, n, f, b in zip((*STEPS, "r1"), through, failed, spent, strict=True)
    )


@pytest.mark.parametrize(
    ("after", "named"),
    [
        (counted(51, 50, 50, 50), "detect"),
        (counted(50, 50, 50, 50), "load"),
        (counted(70, 69, 66, 66), "read"),
        (counted(70, 70, 70, 70, busy=(700, 700, 9000, 700)), None),
        (counted(70, 70, 70, 70), None),
        (counted(70, 68, 66, 66), None),
        (counted(70, 68, 68, 68, failed=(0, 2, 0, 2)), None),
        (counted(90, 70, 90, 70), None),
        (counted(60, 1, 60, 60), None),
        (counted(70, 50, 50, 50, failed=(0, 20, 0, 20)), None),
    ],
    ids=(
        "one step let nothing through",
        "the first step let nothing through",
        "most are stuck in one step",
        "where the time of others went says nothing",
        "all alike",
        "two steps alike",
        "what failed in a step is not stuck in it",
        "another ensemble uses the same models",
        "a model was loaded anew in between",
        "nothing reached the step behind one that fails",
    ),
)
def test_the_step_that_kept_a_call(after: tuple[StepTime, ...], named: str | None) -> None:
    """By what came in and did not go out; else nobody."""
    assert slow_model(counted(50, 50, 50, 50), after) == named


class Server:
    """An inference server that stops in a step for good, and can be away."""

    endpoint = "one:8001"

    def __init__(self) -> None:
        self.through = [5, 5, 5, 5]
        self.stuck_in: int | None = None
        self.is_away = False
        self.looks = 0

    async def step_times(self, release: str) -> tuple[StepTime, ...]:
        self.looks += 1
        if self.is_away:
            raise InferenceUnavailableError("away")
        await asyncio.sleep(0.2)
        return counted(*self.through)

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        await asyncio.sleep(0.1)
        for place in range(4):
            if self.stuck_in == place:
                await asyncio.sleep(8.0)
                raise InferenceTimeoutError("late", endpoint=self.endpoint)
            self.through[place] += 1
        return Answer(result_json=b"{}", report_json=b"{}", endpoint=self.endpoint)


def test_a_timeout_names_the_step_in_which_the_call_is_stuck() -> None:
    """A look that ends during the call, when that has passed the first step, misleads nobody. And looks are few."""

    async def test() -> None:
        server = Server()
        calls = NamingSlowSteps(server, (server,), timeout_s=8.0)
        for _ in range(100):
            await calls.infer("r1", b"", {})
        assert server.looks <= 6
        server.stuck_in = 1
        await asyncio.sleep(3.0)
        with pytest.raises(InferenceTimeoutError) as told:
            await calls.infer("r1", b"", {})
        assert told.value.model == "detect"

    virtual_time.run(test)


def test_a_server_that_does_not_say_leaves_a_timeout_as_it_is() -> None:
    """No step is guessed, and no other error takes its place."""

    async def test() -> None:
        server = Server()
        server.stuck_in, server.is_away = 1, True
        calls = NamingSlowSteps(server, (server,), timeout_s=8.0)
        for _ in range(2):
            with pytest.raises(InferenceTimeoutError) as told:
                await calls.infer("r1", b"", {})
            assert told.value.model is None

    virtual_time.run(test)
