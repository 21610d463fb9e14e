"""How much the gateway takes at once, so that no device, however many or broken, can fill its memory or its time."""

from dataclasses import dataclass

IMAGE_BYTES_KEY = "hindsight-max-image-bytes"
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """Limits of one gateway process.

    Args:
        image_bytes_max: Largest encoded image; also told to clients in the response metadata, under IMAGE_BYTES_KEY.
        message_bytes_max: Largest message received, above image_bytes_max: an image between the two is refused with an
            answer, and anything above breaks its stream.
        image_pixels_max: Most pixels that an image's header may claim.
        window_frames: Frames of one session between receipt and acknowledgement; when it is full the client waits.
        bytes_in_flight_max: Image bytes of all sessions that wait for the blob store.
        frames_per_stream_max: After so many frames a stream is ended, and the client opens another.
        streams_max: Streams open at once.
        streams_per_device_max: Streams open at once that carry one device's frames.
        sessions_max: Sessions remembered; the one heard from least recently is forgotten first.
        sequences_remembered: Outcomes remembered for each session, by which repeats are answered without publishing.
        idle_s: A stream that sends nothing for so long is ended.
    """

    image_bytes_max: int = 12 * _MIB
    message_bytes_max: int = 16 * _MIB
    image_pixels_max: int = 50_000_000
    window_frames: int = 32
    bytes_in_flight_max: int = 256 * _MIB
    frames_per_stream_max: int = 1_000_000
    streams_max: int = 256
    streams_per_device_max: int = 4
    sessions_max: int = 1024
    sequences_remembered: int = 512
    idle_s: float = 300.0
