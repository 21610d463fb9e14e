"""Where a frame's trace begins, or goes on from its client's: at the doors. `processors.tracing` takes it further.

The context travels as a W3C traceparent, in the records' header of that name.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_tracer = trace.get_tracer("hindsight")
_propagator = TraceContextTextMapPropagator()


@contextmanager
def receiving(door: str, traceparent: str) -> Iterator[trace.Span]:
    """A span for what a door does with one frame: child of the span that runs (FastAPI has one), or else of the client's."""
    runs = trace.get_current_span().get_span_context().is_valid
    parent = _propagator.extract({"traceparent": traceparent}) if traceparent and not runs else None
    with _tracer.start_as_current_span(f"hindsight.{door}", context=parent, kind=trace.SpanKind.SERVER) as span:
        yield span


def current_traceparent(fallback: str = "") -> str:
    """The running span as a W3C traceparent; the fallback when no span is recorded."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent", fallback)
