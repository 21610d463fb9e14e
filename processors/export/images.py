"""Images of frames for export: fetched a few ahead, and the reason where there is none."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from schemas.errors import ContractError, FrameRefusedError
from schemas.types import BlobRef
from streams.images import inspect
from streams.ports import BlobStore

T = TypeVar("T")

MAX_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 100_000_000
_AHEAD = 8
_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameImage:
    """An encoded image with its size in px and what it is, or `trouble`: why there is none."""

    content: bytes = b""
    media_type: str = ""
    width_px: int = 0
    height_px: int = 0
    trouble: str = ""


def frame_image(blobs: BlobStore, ref: BlobRef) -> FrameImage:
    """The image under a reference.

    Raises:
        BlobStoreUnavailableError: the store does not answer.
    """
    try:
        content = blobs.get(ref)
        facts = inspect(content, max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS)
    except FrameRefusedError as error:
        return FrameImage(trouble=str(error))
    except ContractError as error:
        return FrameImage(trouble=str(error).replace(ref.sha256, f"{ref.sha256[:12]}..."))
    return FrameImage(content=content, media_type=facts.media_type, width_px=facts.width_px, height_px=facts.height_px)


def with_images(
    items: Iterable[T], blobs: BlobStore, ref_of: Callable[[T], BlobRef | None]
) -> Generator[tuple[T, FrameImage | None], None, None]:
    """Each item with the image that it is about, in order; None where it is about none.

    Raises:
        BlobStoreUnavailableError: the store does not answer.
    """
    waiting: deque[tuple[T, Future[FrameImage] | None]] = deque()
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="images")
    try:
        for item in items:
            ref = ref_of(item)
            waiting.append((item, None if ref is None else threads.submit(frame_image, blobs, ref)))
            if len(waiting) > _AHEAD:
                yield _waited(*waiting.popleft())
        while waiting:
            yield _waited(*waiting.popleft())
    finally:
        threads.shutdown(cancel_futures=True)


def _waited(item: T, image: "Future[FrameImage] | None") -> tuple[T, FrameImage | None]:
    return item, None if image is None else image.result()
