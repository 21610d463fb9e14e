"""Log lines and traces of a process: structlog to stderr, OpenTelemetry to an OTLP endpoint when one is set."""

import logging
import sys
from typing import Any

import structlog
from opentelemetry import trace

from topology.settings import TelemetrySettings


def set_up(settings: TelemetrySettings, *, service: str) -> None:
    """Configure logging and tracing once, at the start of a process.

    Args:
        service: Name in traces and lines, such as worker.
    """
    _logging(settings, service)
    if settings.otlp_endpoint:
        _tracing(settings.otlp_endpoint, service)


def _logging(settings: TelemetrySettings, service: str) -> None:
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(
        level=max(level, logging.WARNING), stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    if level == logging.DEBUG:
        logging.getLogger("librdkafka").setLevel(logging.DEBUG)
    # Faust tells of every rebalance at INFO, and aiokafka of every heartbeat that meets one.
    for name in ("faust", "mode", "aiokafka", "httpx"):
        logging.getLogger(name).setLevel(max(level, logging.ERROR if name == "aiokafka" else logging.WARNING))


def _tracing(endpoint: str, service: str) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"hindsight-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
