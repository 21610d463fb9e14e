"""Reading forms: however the bytes are cut, and whatever they are."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from streams.http_gateway.problems import ProblemError
from streams.http_gateway.upload import FIELD_BYTES, Upload, UploadTooLargeError, read_upload

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="device_id"\r\n\r\ngate-1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    b"\xff\xd8\r\n--not the boundary\r\n\xff\xd9\r\n--b--\r\n"
)
IMAGE = b"\xff\xd8\r\n--not the boundary\r\n\xff\xd9"


def read(chunks: list[bytes], *, max_bytes: int = 1000, kind: str = "multipart/form-data; boundary=b") -> Upload:
    """A form that arrives in these pieces."""

    async def messages() -> AsyncIterator[Message]:
        for chunk in chunks:
            yield {"type": "http.request", "body": chunk, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    coming = messages()
    request = Request(
        {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}, receive=lambda: anext(coming)
    )
    return asyncio.run(read_upload(request, max_bytes=max_bytes, deadline_s=5))


@given(st.lists(st.integers(0, len(FORM)), max_size=8))
def test_a_form_reads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    """Where the network cuts a form makes no difference."""
    edges = [0, *sorted(cuts), len(FORM)]
    upload = read([FORM[a:b] for a, b in pairwise(edges)])
    assert (upload.fields, upload.image) == ({"device_id": "gate-1"}, IMAGE)


@given(st.binary(max_size=300), st.integers(0, len(FORM)))
def test_any_bytes_are_a_form_or_a_problem(noise: bytes, at: int) -> None:
    """Noise anywhere in a form is a problem at worst."""
    try:
        read([FORM[:at] + noise + FORM[at:]])
        read([noise])
    except ProblemError:
        pass


def test_the_image_may_be_as_large_as_the_limit_and_not_larger() -> None:
    """One byte decides, and the refusal carries the fields that came before."""
    assert read([FORM], max_bytes=len(IMAGE)).image == IMAGE
    with pytest.raises(UploadTooLargeError) as refused:
        read([FORM], max_bytes=len(IMAGE) - 1)
    assert refused.value.upload.fields == {"device_id": "gate-1"}


def part(name: str, content: bytes) -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + content + b"\r\n"


@pytest.mark.parametrize(
    "body",
    [
        part("device_id", b"x" * (FIELD_BYTES + 1)) + b"--b--\r\n",
        b"".join(part(f"f{n}", b"") for n in range(40)) + b"--b--\r\n",
        part("device_id", b"a") + part("device_id", b"b") + b"--b--\r\n",
        part("image", b"a") + part("image", b"b") + b"--b--\r\n",
        part("device_id", b"\xff\xfe") + b"--b--\r\n",
    ],
    ids=["long", "many", "twice", "two images", "not text"],
)
def test_fields_have_bounds(body: bytes) -> None:
    """Long, many, repeated or unreadable fields are a problem that says so."""
    with pytest.raises(ProblemError) as refused:
        read([body])
    assert refused.value.reason == "bad_field"


def test_a_body_that_stops_coming_is_given_up() -> None:
    """A client that never ends its body is told after the deadline."""

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"multipart/form-data; boundary=b")]}
    with pytest.raises(ProblemError) as refused:
        asyncio.run(read_upload(Request(scope, receive=never), max_bytes=10, deadline_s=0.05))
    assert refused.value.reason == "read_timeout"
