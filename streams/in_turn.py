"""Several inference servers as one: the one that answered last is asked first, and the next when it is away."""

from collections.abc import Mapping

from schemas.errors import InferenceUnavailableError
from streams.ports import Answer, Inference


class InTurn:
    """Use it inside one event loop.

    Args:
        servers: At least one.
    """

    def __init__(self, servers: tuple[Inference, ...]) -> None:
        self._servers = servers
        self._first = 0

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        away: list[str] = []
        for turn in range(len(self._servers)):
            number = (self._first + turn) % len(self._servers)
            try:
                answer = await self._servers[number].infer(release, image, parameters, traceparent=traceparent)
            except InferenceUnavailableError as error:
                away.append(str(error))
                continue
            self._first = number
            return answer
        raise InferenceUnavailableError("; ".join(away), do="check that Triton runs and has the release: `hindsight status`")
