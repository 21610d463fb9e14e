"""Whether the model processes of a release live: its ensemble is asked to read a small grey picture.

"Ready" says nothing of them: a server whose model process was killed stays ready, and fails every call that needs it. Whatever
else the ensemble makes of the picture, an answer or a step that says no, shows that the processes it came to live.
"""

import base64

import grpc
from tritonclient.grpc.aio import InferenceServerClient, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from schemas.errors import InferenceUnavailableError, StepFailedError
from streams.triton_errors import text_input, translated

# 128x160, grey, JPEG: no step finds anything on it, and each is passed nothing.
_PICTURE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI//////////////////////////////////////////"
    "//////////wAALCACgAIABAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAD/2Q=="
)


async def probe(client: InferenceServerClient, release: str, endpoint: str, *, timeout_s: float) -> None:
    """Returns when the processes live.

    Raises:
        ModelProcessDiedError: one is dead.
        InferenceTimeoutError: no answer in time.
        InferenceUnavailableError: the server is away, or does not have the release ready.
    """
    inputs = [text_input("IMAGE", _PICTURE), text_input("PARAMETERS", b"{}")]
    outputs = [InferRequestedOutput("REPORT")]
    try:
        await client.infer(release, inputs, model_version="1", outputs=outputs, client_timeout=timeout_s)
    except InferenceServerException as error:
        found = translated(error, release, endpoint)
        if not isinstance(found, StepFailedError):
            raise found from error
    except grpc.RpcError as error:
        raise InferenceUnavailableError(f"Triton at {endpoint}: {error}") from error
