"""Reading one multipart form from a request in bounded memory: small text fields and one image.

Nothing beyond the limits is kept, whatever the client declares or sends: the length header is believed when it is
too large, and the bytes are counted anyhow. What was read so far goes with the refusal, so that `Intake`, which acts
next, can record it for a known device.
"""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from streams.http_gateway.problems import ProblemError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD_BYTES = 16 * 1024
FIELDS = 32
# Boundaries and part headers beside fields and image.
_OVERHEAD_BYTES = 64 * 1024


@dataclass(slots=True)
class Upload:
    """What a form held; `image` is None when it had no such part."""

    fields: dict[str, str] = field(default_factory=dict)
    image: bytes | None = field(default=None, repr=False)


class UploadTooLargeError(ProblemError):
    """The image is over the limit; `upload` holds the fields that came before it, and the bytes that were read."""

    def __init__(self, detail: str, upload: Upload) -> None:
        super().__init__("too_large", detail)
        self.upload = upload


async def read_upload(request: Request, *, max_bytes: int, deadline_s: float) -> Upload:
    """Read the form.

    Args:
        max_bytes: Largest image.
        deadline_s: For the whole body.
    Raises:
        UploadTooLargeError: the image is larger, or the declared length cannot be right for anything smaller.
        ProblemError: not a form, broken, too slow.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ProblemError("not_multipart", "the body must be multipart/form-data with a boundary")
    declared = request.headers.get("content-length", "")
    fits = not (declared.isascii() and declared.isdigit()) or int(declared) <= max_bytes + FIELDS * FIELD_BYTES + _OVERHEAD_BYTES
    form = _Form(options[b"boundary"], max_bytes=max_bytes, fits=fits)
    try:
        async with asyncio.timeout(deadline_s):
            async for chunk in request.stream():
                form.feed(chunk)
    except TimeoutError as error:
        raise ProblemError("read_timeout", f"the body did not arrive within {deadline_s:g} s") from error
    except ClientDisconnect as error:
        raise ProblemError("bad_multipart", "the client went away in the middle of the body") from error
    return form.finish()


class _Form:
    """A push parser for one form."""

    def __init__(self, boundary: bytes, *, max_bytes: int, fits: bool) -> None:
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begin,
            "on_header_begin": self._header_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        self._upload = Upload()
        self._max_bytes = max_bytes
        self._fits = fits
        self._name = ""
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        self._content = bytearray()
        self._ended = False
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise ProblemError("bad_multipart", str(error)) from error

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise ProblemError("bad_multipart", f"the form cannot be read: {error}") from error

    def finish(self) -> Upload:
        if not self._ended:
            raise ProblemError("bad_multipart", "the form ends before its last boundary")
        return self._upload

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_begin(self) -> None:
        self._header = (bytearray(), bytearray())

    def _header_field(self, chunk: bytes, start: int, end: int) -> None:
        self._header[0].extend(chunk[start:end])

    def _header_value(self, chunk: bytes, start: int, end: int) -> None:
        self._header[1].extend(chunk[start:end])

    def _header_end(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = bytes(self._header[1])

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._content = bytearray()
        if self._name in self._upload.fields or (self._name == "image" and self._upload.image is not None):
            raise ProblemError("bad_field", f"field {self._name!r} appears twice")
        if len(self._upload.fields) >= FIELDS:
            raise ProblemError("bad_field", f"more than {FIELDS} fields")
        if self._name == "image" and not self._fits:
            raise UploadTooLargeError(self._too_large("the declared length of the body"), self._upload)

    def _part_data(self, chunk: bytes, start: int, end: int) -> None:
        room = (self._max_bytes if self._name == "image" else FIELD_BYTES) - len(self._content)
        if end - start > room:
            if self._name != "image":
                raise ProblemError("bad_field", f"field {self._name!r} is longer than {FIELD_BYTES} bytes")
            self._upload.image = bytes(self._content)
            raise UploadTooLargeError(self._too_large("the image"), self._upload)
        self._content.extend(chunk[start:end])

    def _part_end(self) -> None:
        if self._name == "image":
            self._upload.image = bytes(self._content)
        else:
            try:
                self._upload.fields[self._name] = self._content.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ProblemError("bad_field", f"field {self._name!r} is not UTF-8") from error
        self._content = bytearray()

    def _end(self) -> None:
        self._ended = True

    def _too_large(self, what: str) -> str:
        return f"{what} is over the limit of {self._max_bytes} bytes for an image; reading stopped there"
