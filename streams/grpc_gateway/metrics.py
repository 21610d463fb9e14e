"""Prometheus metrics of the gateway. Seconds are seconds, and buckets are set for them."""

from prometheus_client import Counter, Gauge, Histogram

FRAMES = Counter("hindsight_gateway_frames_total", "Frames and notices answered, by what became of them.", ("outcome",))
STREAMS = Gauge("hindsight_gateway_streams", "Streams open.")
WINDOW = Gauge("hindsight_gateway_window_frames", "Frames between receipt and outcome, all sessions.")
BYTES = Gauge("hindsight_gateway_bytes_in_flight", "Image bytes that wait for the blob store.")
ACK_SECONDS = Histogram(
    "hindsight_gateway_acknowledge_seconds",
    "From a frame's receipt until the broker and the blob store held it.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)
