"""Where an edge device's frames come from: a folder of images, a video file, a camera. Each is a plain iterator.

A file gives frames as fast as it is asked, a camera in its own time. Frames of files carry a mark, so that a program
that was killed goes on after the last frame that its spool took. The client's `offer` acts next.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import ConfigurationError, ContractError
from streams.edge.entries import Capture
from streams.records import Clock

if TYPE_CHECKING:
    from av import VideoFrame

IMAGE_SUFFIXES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".bmp": "image/bmp"}
_URL_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "srt://")
_JPEG_QUALITY = 90


def open_source(where: str, *, fps: float, clock: Clock, after: str = "", loop: bool = False) -> Iterator[Capture]:
    """Frames of a folder, a video file, or a camera (a number such as 0, a /dev path, or a stream's URL).

    Args:
        fps: Frames a second wanted of a video or camera; 0 for every frame. A folder gives every image.
        after: Mark of the last frame that was taken before; files go on behind it if it is theirs.
        loop: Begin again at the end of a folder or file.
    Raises:
        ConfigurationError: there is no such source, or nothing to read in it.
        ContractError: a video cannot be decoded.
    """
    path = Path(where)
    if is_live(where):
        return camera_frames(where, fps=fps, clock=clock)
    if path.is_dir():
        return folder_frames(path, clock=clock, after=after, loop=loop)
    if path.is_file():
        return video_frames(path, fps=fps, clock=clock, after=after, loop=loop)
    raise ConfigurationError(
        f"{where} is no folder, file or camera", setting="source", do="name a folder of images, a video, or a camera"
    )


def is_live(where: str) -> bool:
    """Whether a source keeps its own time: a camera, and not a file."""
    return where.isdecimal() or where.startswith(("/dev/", *_URL_SCHEMES))


def folder_frames(folder: Path, *, clock: Clock, after: str = "", loop: bool = False) -> Iterator[Capture]:
    """The images of a folder, by name; for ever if it is to loop."""
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise ConfigurationError(f"{folder} has no images", setting="source", do=f"put {', '.join(IMAGE_SUFFIXES)} files there")
    return _folder_frames(folder, images, clock, _index_after(folder, after), loop)


def _folder_frames(folder: Path, images: list[Path], clock: Clock, index: int, loop: bool) -> Iterator[Capture]:
    while loop or index < len(images):
        path = images[index % len(images)]
        media_type = IMAGE_SUFFIXES[path.suffix.lower()]
        yield Capture(image=path.read_bytes(), captured_at_us=clock(), media_type=media_type, mark=_mark(folder, index))
        index += 1


def video_frames(path: Path, *, fps: float, clock: Clock, after: str = "", loop: bool = False) -> Iterator[Capture]:
    """Frames of a video file as JPEG, `fps` of them for each second of the video; for ever if it is to loop."""
    start, index = _index_after(path, after), 0
    while True:
        begun = index
        for picture in _pictures(str(path), fps, {}):
            if index >= start:
                yield Capture(image=_jpeg(picture), captured_at_us=clock(), mark=_mark(path, index))
            index += 1
        if not loop or index == begun:
            return


def camera_frames(where: str, *, fps: float, clock: Clock) -> Iterator[Capture]:
    """Frames of a camera as JPEG, at most `fps` a second, until it goes away."""
    device = f"/dev/video{where}" if where.isdecimal() else where
    options = {"rtsp_transport": "tcp"} if device.startswith("rtsp") else {}
    form = "v4l2" if device.startswith("/dev/") else None
    for picture in _pictures(device, fps, options, form):
        yield Capture(image=_jpeg(picture), captured_at_us=clock())


def _pictures(where: str, fps: float, options: dict[str, str], form: str | None = None) -> Iterator["VideoFrame"]:
    try:
        import av
    except ImportError as error:
        raise ConfigurationError("reading video needs PyAV", do="pip install 'hindsight-recorder[edge]'") from error
    try:
        with av.open(where, format=form, options=options, timeout=10.0) as container:
            if not container.streams.video:
                raise ConfigurationError(f"{where} has no video in it", setting="source", do="name a video")
            yield from _thinned(container.decode(video=0), fps)
    except av.FFmpegError as error:
        raise ContractError(f"{where} cannot be read as video: {error}", do="check the file or the camera's address") from error


def _thinned(pictures: Iterator["VideoFrame"], fps: float) -> Iterator["VideoFrame"]:
    """At most `fps` of the pictures for each second of their own time."""
    due_s: float | None = None
    for picture in pictures:
        at_s = picture.time
        if fps <= 0 or at_s is None:
            yield picture
            continue
        if due_s is None or at_s >= due_s - 1e-6:
            due_s = at_s + 1 / fps if due_s is None else max(due_s + 1 / fps, at_s)
            yield picture


def _jpeg(picture: "VideoFrame") -> bytes:
    out = io.BytesIO()
    picture.to_image().save(out, "JPEG", quality=_JPEG_QUALITY)  # type: ignore[no-untyped-call]  # PyAV leaves it untyped
    return out.getvalue()


def _mark(path: Path, index: int) -> str:
    return f"{index} {path.resolve()}"


def _index_after(path: Path, mark: str) -> int:
    """Index of the frame after `mark`; 0 when that is of another source."""
    index, _, marked = mark.partition(" ")
    return int(index) + 1 if index.isdecimal() and marked == str(path.resolve()) else 0
