"""Rerun: images, boxes and a log on two timelines, in one `.rrd` file, written without a viewer.

    /<device>/image                  EncodedImage    the frame's bytes as they were stored
    /<device>/image/observations     Boxes2D, with the outlines beneath as LineStrips2D
    /<device>/image/candidates       the same for what was left out
    /log                             TextLog         alerts, releases, what went wrong

The timeline `captured` is the device's clock, `appended` the broker's. Rerun adds `log_time` and `log_tick` of its own, which
tell of the export and not of the window.
"""

import hashlib
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

from processors.export import said
from processors.export.drawing import grey_frame, png
from processors.export.images import FrameImage, with_images
from processors.export.moments import Moment, moments
from processors.export.window import Window
from processors.export.writing import Choices, Output, Tally, describe, needs
from schemas.events import FrameCaptured, InferenceCompleted
from schemas.types import BlobRef
from streams.past import Past

if TYPE_CHECKING:
    from rerun import RecordingStream

CAPTURED, APPENDED = "captured", "appended"


def export(past: Past, window: Window, output: Output, tally: Tally, choices: Choices) -> None:
    """Images, boxes and log lines of the window; repeats are left out."""
    try:
        import rerun as rr
    except ImportError as error:
        raise needs("export", "rerun-sdk") from error
    about = describe(past, window)
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    recording = rr.RecordingStream("hindsight", recording_id=name, send_properties=False)
    try:
        recording.save(str(output.partial(output.target)))
        recording.log("about", rr.TextDocument(json.dumps(about, ensure_ascii=False)), static=True)
        with closing(with_images(moments(past, window), past.blobs, _image_of)) as found:
            for moment, image in found:
                tally.count(moment)
                if moment.event is not None and not moment.is_repeat:
                    _write(recording, moment, image, tally)
        recording.flush()
    finally:
        recording.disconnect()


def _image_of(moment: Moment) -> BlobRef | None:
    is_frame = isinstance(moment.event, FrameCaptured) and not moment.is_repeat
    return moment.event.frame.blob if is_frame else None


def _write(recording: "RecordingStream", moment: Moment, image: FrameImage | None, tally: Tally) -> None:
    import rerun as rr

    event, line = moment.event, said.log_line(moment.event)
    if line is None and not isinstance(event, FrameCaptured | InferenceCompleted):
        return
    _set_times(recording, moment)
    match event:
        case FrameCaptured():
            assert image is not None, "a captured frame is asked for"
            tally.count_image(image.trouble)
            content = png(grey_frame(640, 480, image.trouble)) if image.trouble else image.content
            media_type = "image/png" if image.trouble else image.media_type
            recording.log(_path(event, "image"), rr.EncodedImage(contents=content, media_type=media_type))
        case InferenceCompleted():
            _draw(recording, _path(event, "image", "observations"), event.observations, said.OBSERVED_RGB)
            _draw(recording, _path(event, "image", "candidates"), event.candidates, said.CANDIDATE_RGB)
    if line is not None:
        level = {said.INFO: rr.TextLogLevel.INFO, said.WARNING: rr.TextLogLevel.WARN, said.ERROR: rr.TextLogLevel.ERROR}
        recording.log("log", rr.TextLog(f"{line.name}: {line.message}", level=level[line.level]))


def _set_times(recording: "RecordingStream", moment: Moment) -> None:
    import numpy as np

    appended_us = moment.record.appended_at_ms * 1000
    true_us = said.true_at_us(moment.event, otherwise_us=appended_us)
    for timeline, at_us in ((CAPTURED, true_us), (APPENDED, appended_us)):
        recording.set_time(timeline, timestamp=np.datetime64(said.within_clocks(at_us), "us").astype("datetime64[ns]"))


def _draw(recording: "RecordingStream", path: list[object], seen: tuple[Any, ...], rgb: tuple[int, int, int]) -> None:
    """Boxes with captions, and outlines; none of them clears what stood there before."""
    import rerun as rr

    drawn = [(said.corners(one.polygon_px), said.caption(one)) for one in seen]
    drawn = [(points, text) for points, text in drawn if points]
    least = [(min(x for x, _ in points), min(y for _, y in points)) for points, _ in drawn]
    most = [(max(x for x, _ in points), max(y for _, y in points)) for points, _ in drawn]
    sizes = [(right - left, bottom - top) for (left, top), (right, bottom) in zip(least, most, strict=True)]
    texts, colors = [text for _, text in drawn], [rgb] * len(drawn)
    recording.log(path, rr.Boxes2D(mins=least, sizes=sizes, labels=texts, colors=colors))
    outlines = [[*points, points[0]] for points, _ in drawn]
    recording.log([*path, "outline"], rr.LineStrips2D(outlines, colors=colors))


def _path(event: FrameCaptured | InferenceCompleted, *below: str) -> list[object]:
    return [event.frame.device_id or "(no name)", *below]
