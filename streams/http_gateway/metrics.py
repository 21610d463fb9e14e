"""Prometheus metrics of one HTTP gateway, in a registry of its own; `GET /metrics` prints them. Times are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class HttpMetrics:
    """The gateway's counters; made once for each app, so that two apps in one process keep apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "hindsight_http_requests_total", "Answers by route, method and status.", ["route", "method", "status"], registry=r
        )
        self.seconds = Histogram(
            "hindsight_http_request_seconds", "Until the answer began.", ["route", "method"], buckets=_BUCKETS_S, registry=r
        )
        self.frames = Counter(
            "hindsight_http_frames_total",
            "Frames by outcome: published, repeated, late (acknowledged after the deadline), or the reason of refusal.",
            ["outcome"],
            registry=r,
        )
        self.uploads = Gauge("hindsight_http_uploads", "Submissions at work.", registry=r)
        self.streams = Gauge("hindsight_http_streams", "Clients of the result stream.", registry=r)
        self.stream_events = Counter(
            "hindsight_http_stream_events_total", "Events sent to clients of the result stream.", registry=r
        )
        self.stream_behind = Counter(
            "hindsight_http_stream_behind_total", "Times that a slow client was sent back to the log.", registry=r
        )
        self.undecodable = Counter(
            "hindsight_http_stream_undecodable_total", "Records on vision.results that could not be decoded.", registry=r
        )
