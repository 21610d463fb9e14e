"""One trace from the gateway to the result: the context travels in the records' `traceparent` header."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from processors.step import Cause
from streams.records import Record
from streams.tracing import current_traceparent

__all__ = ["calling", "consuming", "current_traceparent", "is_traced", "storing", "trace_id_of"]

_tracer = trace.get_tracer("hindsight")
_propagator = TraceContextTextMapPropagator()


@contextmanager
def consuming(processor: str, record: Record, cause: Cause) -> Iterator[None]:
    """A span for one record's work, child of the span that wrote it; log lines inside carry ids and position.

    Where nobody collects spans, what is called from here still hears of the trace that the record came with.
    """
    fields = {
        "device": (record.key or b"").decode("utf-8", "replace"),
        "frame": cause.correlation_id,
        "position": f"{record.topic}/{record.partition}/{record.offset}",
    }
    if not (cause.traceparent or is_traced()):
        with structlog.contextvars.bound_contextvars(**fields, trace_id=""):
            yield
        return
    parent = _propagator.extract({"traceparent": cause.traceparent}) if cause.traceparent else None
    with (
        _tracer.start_as_current_span(f"hindsight.{processor}", context=parent, kind=trace.SpanKind.CONSUMER) as span,
        structlog.contextvars.bound_contextvars(**fields, trace_id=trace_id_of(cause.traceparent)),
    ):
        span.set_attribute("messaging.kafka.destination.partition", record.partition)
        span.set_attribute("messaging.kafka.message.offset", record.offset)
        span.set_attribute("hindsight.correlation_id", cause.correlation_id)
        yield


def is_traced() -> bool:
    """Whether somebody collects spans: work that awaits nothing and logs nothing needs none otherwise."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def calling(what: str, **attributes: str) -> Iterator[None]:
    """A span for one call to the outside, child of the record's; an error that leaves it is recorded."""
    if not is_traced():
        yield
        return
    with _tracer.start_as_current_span(what, kind=trace.SpanKind.CLIENT) as span:
        for name, value in attributes.items():
            span.set_attribute(f"hindsight.{name}", value)
        yield


@contextmanager
def storing(processor: str, traceparent: str) -> Iterator[None]:
    """A span for one write of states; child of the last record that it counts, since one write may count many."""
    if not is_traced():
        yield
        return
    parent = _propagator.extract({"traceparent": traceparent}) if traceparent else None
    with _tracer.start_as_current_span("viewstore.save", context=parent, kind=trace.SpanKind.CLIENT) as span:
        span.set_attribute("hindsight.processor", processor)
        yield


def trace_id_of(traceparent: str) -> str:
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""
