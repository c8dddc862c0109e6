"""Spans kept in memory, made as production makes them."""

from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from telemetry.setup import Telemetry, no_telemetry
from telemetry.spans import SpanIds, Spans

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@dataclass(frozen=True)
class Memory:
    spans: Spans
    exporter: InMemorySpanExporter

    @classmethod
    def make(cls, *, parent_decides: bool = False) -> "Memory":
        """Records everything; with `parent_decides`, all but what the parent does not record."""
        exporter, ids = InMemorySpanExporter(), SpanIds()
        provider = TracerProvider(id_generator=ids, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return cls(Spans(provider.get_tracer("test"), ids, parent_decides=parent_decides), exporter)

    @property
    def finished(self) -> dict[str, ReadableSpan]:
        """By name; the newest of equal names."""
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def telemetry(self) -> Telemetry:
        """A process that records spans here and metrics nowhere."""
        telemetry = no_telemetry()
        telemetry.spans = self.spans
        return telemetry


def ids(span: ReadableSpan) -> SpanContext:
    context = span.context
    assert context is not None
    return context
