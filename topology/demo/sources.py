"""The demo's three devices as streams of frames: photographs, a yard and a gate.

Owns which pictures each device shows, and when. Guarantees: each stream is finite, in order of capture, and the same
every time. The demo's run sends them through the edge client and the gateway.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2

from schemas.errors import ConfigurationError
from topology.demo.gate import GateFrame, passages
from topology.demo.media import Media
from topology.demo.paintwork import Pixels

PHOTOGRAPHS_DEVICE, YARD_DEVICE, GATE_DEVICE = "photos-1", "yard-1", "gate-1"
_PHOTOGRAPH_EVERY_US = 5_000_000
_VIDEO_FRAME_US = 100_000
_LONG_SIDE_PX = 800
_JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFrame:
    """A frame of a device; `truth` is there where the picture was rendered."""

    device_id: str
    sequence: int
    image_jpeg: bytes
    captured_offset_us: int
    passage_id: str | None = None
    truth: GateFrame | None = None


def photograph_frames(media: Media, *, count: int = 6) -> Iterator[SourceFrame]:
    """The photographs in turn, from the first again after the last; JPEG, long side 800 px or less."""
    for sequence in range(count):
        yield SourceFrame(
            device_id=PHOTOGRAPHS_DEVICE,
            sequence=sequence,
            image_jpeg=_jpeg(_fit(_read(media.photographs[sequence % len(media.photographs)]))),
            captured_offset_us=sequence * _PHOTOGRAPH_EVERY_US,
        )


def yard_frames(media: Media, *, count: int = 22, every: int = 10) -> Iterator[SourceFrame]:
    """Every `every`-th frame of the video, 768x576 px, `count` of them at most; the video holds 795."""
    for sequence, (number, picture) in enumerate(_video(media.video, count=count, every=every)):
        yield SourceFrame(
            device_id=YARD_DEVICE,
            sequence=sequence,
            image_jpeg=_jpeg(picture),
            captured_offset_us=number * _VIDEO_FRAME_US,
        )


def gate_frames(media: Media, *, seed: int = 6346, count: int = 12, frames_per_passage: int = 6) -> Iterator[SourceFrame]:
    """`count` passages in front of `backgrounds(media)`, with the truth beside each frame."""
    for frame in passages(seed=seed, count=count, frames_per_passage=frames_per_passage, backgrounds=backgrounds(media)):
        yield SourceFrame(
            device_id=GATE_DEVICE,
            sequence=frame.sequence,
            image_jpeg=frame.image_jpeg,
            captured_offset_us=frame.captured_offset_us,
            passage_id=frame.passage_id,
            truth=frame,
        )


def backgrounds(media: Media) -> Sequence[Pixels]:
    """Real scenes without writing on them: the yard at four moments, and the quiet parts of two photographs."""
    yard = [picture for _, picture in _video(media.video, count=4, every=190)]
    generator, kerb = _read(media.photographs[3]), _read(media.photographs[4])
    return [*yard, generator[:600, 480:1280], kerb[480:960, 640:1280]]


def _video(path: Path, *, count: int, every: int) -> Iterator[tuple[int, Pixels]]:
    capture = cv2.VideoCapture(str(path))
    try:
        number = shown = 0
        while shown < count and capture.grab():
            if number % every == 0:
                ok, picture = capture.retrieve()
                if not ok:
                    raise _unreadable(path)
                yield number, cast(Pixels, picture)
                shown += 1
            number += 1
        if number == 0 and count:
            raise _unreadable(path)
    finally:
        capture.release()


def _read(path: Path) -> Pixels:
    picture = cv2.imread(str(path))
    if picture is None:
        raise _unreadable(path)
    return cast(Pixels, picture)


def _unreadable(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path} is not a readable picture or video", do=f"remove {path.parent} and fetch it again")


def _fit(picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    scale = min(1.0, _LONG_SIDE_PX / max(height, width))
    return cast(Pixels, cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA))


def _jpeg(picture: Pixels) -> bytes:
    ok, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert ok, "OpenCV encodes every uint8 BGR picture"
    return encoded.tobytes()
