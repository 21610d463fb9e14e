"""MCAP: images with annotations, a log, and every event as JSON; opens in Foxglove.

    /<device>/image          foxglove.CompressedImage    the frame's bytes as they were stored
    /<device>/annotations    foxglove.ImageAnnotations   what the models reported
    /<device>/candidates     foxglove.ImageAnnotations   what was left out, with the reason
    /log                     foxglove.Log                alerts, releases, what went wrong
    /events/<type>           hindsight.*                 the event and its record's position

`log_time` is when the broker took the record, `publish_time` when the frame was captured, or when the event was true by its
own word. An image and its annotations carry the frame's capture as `timestamp`, by which Foxglove puts them together.
"""

import json
from contextlib import closing
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from processors.export import said
from processors.export.drawing import grey_frame, png
from processors.export.images import FrameImage, with_images
from processors.export.json_schemas import schema_of
from processors.export.moments import Moment, moments
from processors.export.window import Window
from processors.export.writing import Choices, Output, Tally, describe, needs
from schemas.events import FrameCaptured, InferenceCompleted
from schemas.plain import to_plain
from schemas.types import BlobRef
from streams.past import Past

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp
    from mcap.writer import Writer

_FORMATS = {"image/jpeg": "jpeg", "image/png": "png", "image/webp": "webp"}
_THICKNESS_PX, _FONT_PX = 2.0, 14.0


def export(past: Past, window: Window, output: Output, tally: Tally, choices: Choices) -> None:
    """Every event of the window but repeats; a grey picture that says why where a frame's image is not there."""
    try:
        import foxglove_schemas_protobuf  # noqa: F401  # asked for here, so that nothing is begun without it
        from mcap.writer import Writer
    except ImportError as error:
        raise needs("export", "mcap and foxglove-schemas-protobuf") from error
    with output.partial(output.target).open("wb") as file:
        writer = Writer(file)
        writer.start(library=f"hindsight {version('hindsight-recorder')}")
        writer.add_metadata("hindsight", describe(past, window))
        channels = _Channels(writer)
        with closing(with_images(moments(past, window), past.blobs, _image_of)) as found:
            for moment, image in found:
                tally.count(moment)
                if moment.event is not None and not moment.is_repeat:
                    _write(channels, moment, image, tally)
        writer.finish()  # type: ignore[no-untyped-call]  # mcap leaves it untyped


def _image_of(moment: Moment) -> BlobRef | None:
    is_frame = isinstance(moment.event, FrameCaptured) and not moment.is_repeat
    return moment.event.frame.blob if is_frame else None


def _write(channels: "_Channels", moment: Moment, image: FrameImage | None, tally: Tally) -> None:
    event = moment.event
    match event:
        case FrameCaptured():
            assert image is not None, "a captured frame is asked for"
            tally.count_image(image.trouble)
            channels.message(moment, f"{_device(event)}/image", _picture(event, image))
        case InferenceCompleted():
            observed = _annotations(event, event.observations, said.OBSERVED_RGB)
            channels.message(moment, f"{_device(event)}/annotations", observed)
            channels.message(moment, f"{_device(event)}/candidates", _annotations(event, event.candidates, said.CANDIDATE_RGB))
    line = said.log_line(event)
    if line is not None:
        channels.message(moment, "/log", _logged(moment, line))
    channels.event(moment)


def _device(event: FrameCaptured | InferenceCompleted) -> str:
    """The device as one part of a topic's name."""
    return "/" + event.frame.device_id.replace("%", "%25").replace("/", "%2F")


def _picture(event: FrameCaptured, image: FrameImage) -> Any:
    from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

    content, kind = image.content, _FORMATS.get(image.media_type)
    if image.trouble:
        content, kind = png(grey_frame(640, 480, image.trouble)), "png"
    elif kind is None:
        content, kind = _as_png(content)
    return CompressedImage(
        timestamp=_timestamp(event.frame.captured_at_us), frame_id=event.frame.device_id, data=content, format=kind
    )


def _as_png(content: bytes) -> tuple[bytes, str]:
    """What Foxglove does not show (BMP), without loss."""
    from processors.export.drawing import decoded

    picture, trouble = decoded(content)
    return png(picture if picture is not None else grey_frame(640, 480, trouble)), "png"


def _annotations(event: InferenceCompleted, seen: tuple[Any, ...], rgb: tuple[int, int, int]) -> Any:
    from foxglove_schemas_protobuf.Color_pb2 import Color
    from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
    from foxglove_schemas_protobuf.Point2_pb2 import Point2
    from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
    from foxglove_schemas_protobuf.TextAnnotation_pb2 import TextAnnotation

    at = _timestamp(event.frame.captured_at_us)
    color = Color(r=rgb[0] / 255, g=rgb[1] / 255, b=rgb[2] / 255, a=1)
    out = ImageAnnotations(timestamp=at)
    for one in seen:
        points = [Point2(x=x, y=y) for x, y in said.corners(one.polygon_px)]
        if not points:
            continue
        out.points.append(
            PointsAnnotation(
                timestamp=at, type=PointsAnnotation.LINE_LOOP, points=points, outline_color=color, thickness=_THICKNESS_PX
            )
        )
        out.texts.append(
            TextAnnotation(
                timestamp=at,
                position=Point2(x=min(p.x for p in points), y=min(p.y for p in points)),
                text=said.caption(one),
                font_size=_FONT_PX,
                text_color=color,
                background_color=Color(r=0, g=0, b=0, a=0.6),
            )
        )
    return out


def _logged(moment: Moment, line: said.LogLine) -> Any:
    from foxglove_schemas_protobuf.Log_pb2 import Log

    record = moment.record
    return Log(
        timestamp=_timestamp(record.appended_at_ms * 1000),
        level={said.INFO: Log.INFO, said.WARNING: Log.WARNING, said.ERROR: Log.ERROR}[line.level],
        message=line.message,
        name=line.name,
        file=f"{record.topic}/{record.partition}/{record.offset}",
    )


def _timestamp(at_us: int) -> "Timestamp":
    from google.protobuf.timestamp_pb2 import Timestamp

    seconds, us = divmod(said.within_clocks(at_us), 1_000_000)
    return Timestamp(seconds=seconds, nanos=us * 1000)


class _Channels:
    """The file's channels, each made when it is first written to."""

    def __init__(self, writer: "Writer") -> None:
        self._writer = writer
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._counts: dict[int, int] = {}

    def message(self, moment: Moment, topic: str, message: Any) -> None:
        """Write a protobuf message."""
        if topic not in self._channels:
            self._channels[topic] = self._writer.register_channel(topic, "protobuf", self._protobuf_schema(type(message)))
        self._add(moment, self._channels[topic], message.SerializeToString())

    def event(self, moment: Moment) -> None:
        """Write the event with its position."""
        record, name = moment.record, type(moment.event).__name__
        position = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "appended_at_ms": record.appended_at_ms,
        }
        text = json.dumps({"record": position, "event": to_plain(moment.event)}, ensure_ascii=False, allow_nan=False)
        topic = f"/events/{name}"
        if topic not in self._channels:
            self._channels[topic] = self._writer.register_channel(topic, "json", self._json_schema(name))
        self._add(moment, self._channels[topic], text.encode())

    def _add(self, moment: Moment, channel: int, content: bytes) -> None:
        appended_us = moment.record.appended_at_ms * 1000
        true_us = said.within_clocks(said.true_at_us(moment.event, otherwise_us=appended_us))
        self._counts[channel] = self._counts.get(channel, -1) + 1
        self._writer.add_message(channel, appended_us * 1000, content, true_us * 1000, self._counts[channel])

    def _protobuf_schema(self, message: Any) -> int:
        from mcap_protobuf.schema import build_file_descriptor_set

        name = message.DESCRIPTOR.full_name
        if name not in self._schemas:
            described = build_file_descriptor_set(message).SerializeToString()
            self._schemas[name] = self._writer.register_schema(name, "protobuf", described)
        return self._schemas[name]

    def _json_schema(self, event_name: str) -> int:
        event = schema_of(event_name)
        position = {name: {"type": "integer"} for name in ("partition", "offset", "appended_at_ms")}
        schema = {
            "title": event["title"],
            "type": "object",
            "properties": {"record": {"type": "object", "properties": {"topic": {"type": "string"}, **position}}, "event": event},
            "required": ["record", "event"],
        }
        return int(self._writer.register_schema(event["title"], "jsonschema", json.dumps(schema).encode()))
