"""What the HTTP gateway lets in and how long it waits, as one value that the composition root passes down."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of the gateway.

    Memory for uploads is at most `uploads` times `image_bytes`; for streams `streams` times `stream_events` events.

    Args:
        image_bytes: Largest image, in bytes.
        image_pixels: Largest image, in pixels.
        uploads: Requests to /analyze at once, those included whose frame the broker has not acknowledged yet.
        read_s: For a request's body to arrive, in seconds.
        publish_s: For blob store and broker to hold a frame, in seconds.
        view_s: For an answer from the views, in seconds.
        ready_s: For each readiness check, in seconds.
        streams: Clients of /results/stream at once.
        stream_events: Events kept in memory for a client that reads slowly; beyond it they are read from the log again.
        heartbeat_s: Between comments on a quiet stream, in seconds.
    """

    image_bytes: int = 8 * 1024 * 1024
    image_pixels: int = 50_000_000
    uploads: int = 32
    read_s: float = 30.0
    publish_s: float = 10.0
    view_s: float = 5.0
    ready_s: float = 2.0
    streams: int = 200
    stream_events: int = 256
    heartbeat_s: float = 10.0
