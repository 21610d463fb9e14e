"""MP4: a video for each device, every frame with what was read on it.

Frames stand for as long as the device's clock says, at most `longest_gap_ms`; the true time is drawn. A frame that came
out of order is shown right after the one before it. Each video has the size of its first picture; others are fitted into
it. A frame without a picture is grey and says why. As many videos are open at once as a few: more devices are written in
turns, each turn reading the window again.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import ExitStack, closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from processors.export.drawing import decoded
from processors.export.images import FrameImage, with_images
from processors.export.overlay import Canvas, Overlay
from processors.export.stories import Story, stories
from processors.export.window import Window, spans
from processors.export.writing import Choices, Output, Tally, describe, needs
from schemas.catalogue import FRAMES
from schemas.errors import ConfigurationError
from streams.past import Past

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

_AT_ONCE = 4
_LAST_STANDS_MS = 1000
_NOMINAL_RATE = 30  # what players must be able to keep up with; the true rate varies
_ENCODERS = ("libx264", "mpeg4")
_BT601, _VIDEO_RANGE = 5, 1  # how RGB is turned into what H.264 holds, by the numbers of ITU-T H.273
_NAME_LONGEST = 150
SUFFIX = ".mp4"


def export(past: Past, window: Window, output: Output, tally: Tally, choices: Choices) -> None:
    """The frames that the broker took in the window, with what was known of them by its end."""
    try:
        import av  # noqa: F401  # asked for here, so that nothing is begun without it
    except ImportError as error:
        raise needs("export", "PyAV") from error
    devices = _devices(past, window)
    is_file = output.target.suffix.lower() == SUFFIX
    if is_file and len(devices) > 1:
        raise ConfigurationError(
            f"{output.target} is one video, and the window has {len(devices)} devices",
            setting="--output",
            do="name a folder, or one device with --device",
        )
    files = {device: output.target if is_file else output.target / file_name(device) for device in devices}
    for file in files.values():
        output.hold_free(file)
    remaining = iter(devices)
    while turn := tuple(islice(remaining, _AT_ONCE)):
        part = Window(from_us=window.from_us, to_us=window.to_us, devices=frozenset(turn))
        _export_some(past, part, output, files, tally, choices)


def file_name(device: str) -> str:
    """A device's file: what a file system may not take is percent-encoded."""
    safe = quote(device, safe=" ()+,=@_-") or "%"
    if safe.startswith("."):
        safe = f"%2E{safe[1:]}"
    if len(safe) > _NAME_LONGEST:
        safe = f"{safe[:_NAME_LONGEST]}-{hashlib.sha256(device.encode()).hexdigest()[:16]}"
    return f"{safe}{SUFFIX}"


def _devices(past: Past, window: Window) -> list[str]:
    """Devices whose frames the broker took in the window, by their records' keys; none of the others is decoded."""
    found: set[str] = set()
    for span in spans(past.log, window, (FRAMES,)):
        for record in past.log.read(span.topic, span.partition, span.start, span.stop):
            if record.key is not None and (not window.devices or record.key in window.keys):
                found.add(record.key.decode("utf-8", "replace"))
    return sorted(found)


def _export_some(past: Past, window: Window, output: Output, files: dict[str, Path], tally: Tally, choices: Choices) -> None:
    with ExitStack() as opened:
        found = opened.enter_context(closing(with_images(stories(past, window), past.blobs, _image_of)))
        videos: dict[str, Video] = {}
        for story, image in found:
            tally.count(story.captured)
            if story.is_repeated:
                tally.notes["frames that were sent again"] += 1
                continue
            assert image is not None, "a frame is asked for"
            device = (story.captured.record.key or b"").decode("utf-8", "replace")
            if device not in videos:
                about = {**describe(past, window), "devices": device}
                videos[device] = opened.enter_context(Video(output.partial(files[device]), about, choices.longest_gap_ms))
            videos[device].add(story, image, tally)


def _image_of(story: Story) -> Any:
    return None if story.is_repeated else story.frame.blob


class Video:
    """One video being written. Leaving the block writes what is left and closes the file."""

    def __init__(self, file: Path, about: dict[str, str], longest_gap_ms: int) -> None:
        import av

        self._container: OutputContainer = av.open(str(file), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata["title"] = f"{about['devices']} {about['from']}".strip()
        self._container.metadata["comment"] = json.dumps(about, ensure_ascii=False)
        self._stream: Any = None
        self._canvas: Canvas | None = None
        self._overlay = Overlay()
        self._times = Times(longest_gap_ms)
        self._packet: Packet[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and self._stream is not None:
            self._mux(self._stream.encode(None))
            if self._packet is not None:
                self._packet.duration = _LAST_STANDS_MS
                self._container.mux(self._packet)
        self._container.close()

    def add(self, story: Story, image: FrameImage, tally: Tally) -> None:
        """The next frame, as the broker took them."""
        import av

        picture, trouble = (None, image.trouble) if image.trouble else decoded(image.content)
        tally.count_image(trouble)
        if self._canvas is None:
            self._canvas = Canvas.of(story, picture)
            self._stream = self._opened(self._canvas)
        at_ms, is_late = self._times.next_ms(story.frame.captured_at_us)
        tally.notes["frames out of order"] += is_late
        drawn = self._overlay.drawn(story, picture, trouble, self._canvas)
        frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
        frame.pts, frame.time_base = at_ms, Fraction(1, 1000)
        self._mux(self._stream.encode(frame))

    def _opened(self, canvas: Canvas) -> Any:
        stream: Any = self._container.add_stream(_encoder(), rate=_NOMINAL_RATE)
        stream.width, stream.height, stream.pix_fmt = canvas.width_px, canvas.full_height_px, "yuv420p"
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.colorspace, stream.codec_context.color_range = _BT601, _VIDEO_RANGE
        # No frame waits for one behind it, and pictures a second are few: a key frame each few seconds lets people seek.
        stream.options = {"preset": "veryfast", "crf": "20", "bf": "0", "g": "30"}
        return stream

    def _mux(self, packets: Iterable["Packet[Any]"]) -> None:
        """All but the newest packet, which only the end of the file gives a duration."""
        for packet in packets:
            if self._packet is not None:
                self._container.mux(self._packet)
            self._packet = packet


class Times:
    """Times of a video from times of a device, which may stand still, jump, and go back. Milliseconds, ever growing."""

    def __init__(self, longest_gap_ms: int) -> None:
        self._longest_ms = longest_gap_ms
        self._origin_ms: int | None = None
        self._last_ms = 0

    def next_ms(self, captured_at_us: int) -> tuple[int, bool]:
        """The next frame's time, 0 for the first, and whether it came out of order."""
        captured_ms = captured_at_us // 1000
        if self._origin_ms is None:
            self._origin_ms = captured_ms
            return 0, False
        wanted = captured_ms - self._origin_ms
        late = wanted < self._last_ms
        at_ms = max(wanted, self._last_ms + 1)
        if self._longest_ms and wanted - self._last_ms > self._longest_ms:
            at_ms = self._last_ms + self._longest_ms
            self._origin_ms = captured_ms - at_ms
        elif self._last_ms - wanted > (self._longest_ms or _LAST_STANDS_MS):
            # The clock was set back, which is more than one late frame: go on from here.
            self._origin_ms = captured_ms - at_ms
        self._last_ms = at_ms
        return at_ms, late


def _encoder() -> str:
    import av

    for name in _ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except ValueError:  # UnknownCodecError is one
            continue
        return name
    raise ConfigurationError("PyAV has no encoder for MP4 here", do="install PyAV from its wheel")
