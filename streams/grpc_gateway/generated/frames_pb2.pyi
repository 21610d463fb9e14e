from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("device_id", "session_id", "sequence", "captured_at_us", "image", "dropped", "media_type", "passage_id", "labels", "traceparent")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_US_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    session_id: str
    sequence: int
    captured_at_us: int
    image: bytes
    dropped: DroppedFrames
    media_type: str
    passage_id: str
    labels: _containers.ScalarMap[str, str]
    traceparent: str
    def __init__(self, device_id: _Optional[str] = ..., session_id: _Optional[str] = ..., sequence: _Optional[int] = ..., captured_at_us: _Optional[int] = ..., image: _Optional[bytes] = ..., dropped: _Optional[_Union[DroppedFrames, _Mapping]] = ..., media_type: _Optional[str] = ..., passage_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class DroppedFrames(_message.Message):
    __slots__ = ("first_sequence", "last_sequence", "frames_count", "reason")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    last_sequence: int
    frames_count: int
    reason: str
    def __init__(self, first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., frames_count: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class StreamResult(_message.Message):
    __slots__ = ("frames_processed", "frames_rejected", "frames_duplicate")
    FRAMES_PROCESSED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_REJECTED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    frames_processed: int
    frames_rejected: int
    frames_duplicate: int
    def __init__(self, frames_processed: _Optional[int] = ..., frames_rejected: _Optional[int] = ..., frames_duplicate: _Optional[int] = ...) -> None: ...

class FrameAck(_message.Message):
    __slots__ = ("session_id", "sequence", "status", "reason", "detail", "position", "device_id")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[FrameAck.Status]
        ACCEPTED: _ClassVar[FrameAck.Status]
        REJECTED: _ClassVar[FrameAck.Status]
        DUPLICATE: _ClassVar[FrameAck.Status]
    STATUS_UNSPECIFIED: FrameAck.Status
    ACCEPTED: FrameAck.Status
    REJECTED: FrameAck.Status
    DUPLICATE: FrameAck.Status
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    sequence: int
    status: FrameAck.Status
    reason: str
    detail: str
    position: LogPosition
    device_id: str
    def __init__(self, session_id: _Optional[str] = ..., sequence: _Optional[int] = ..., status: _Optional[_Union[FrameAck.Status, str]] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., position: _Optional[_Union[LogPosition, _Mapping]] = ..., device_id: _Optional[str] = ...) -> None: ...

class LogPosition(_message.Message):
    __slots__ = ("topic", "partition", "offset")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...
