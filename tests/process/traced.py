"""A stack that sends its telemetry to a receiver here, and a client process that traces, too."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from telemetry.otlp import span_exporter
from tests.contract.telemetry.receiver import Receiver, attributes

KINDS = {number: name.removeprefix("SPAN_KIND_") for name, number in Span.SpanKind.items()}


def sent_to(receiver: Receiver) -> dict[str, str]:
    """OTEL_* of processes that send spans and metrics without delay. What the client records is recorded."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_METRIC_EXPORT_INTERVAL": "250",
    }


@contextmanager
def tracing_client(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """This process, where the SDK runs, is an application that records every trace."""
    provider = TracerProvider(resource=Resource({"service.name": "application"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(span_exporter(receiver.endpoint)))
    # The process's own provider can be set only once, for all tests.
    monkeypatch.setattr("opentelemetry.trace.get_tracer", provider.get_tracer)
    yield
    provider.shutdown()


@dataclass(frozen=True)
class Node:
    """A span with what is below it, by name."""

    name: str
    kind: str
    children: "tuple[Node, ...]" = ()


def tree(spans: list[Span], root: Span) -> Node:
    below = sorted((tree(spans, span) for span in spans if span.parent_span_id == root.span_id), key=_order)
    return Node(root.name, KINDS[root.kind], tuple(below))


def _order(node: Node) -> tuple[str, str]:
    return node.name, node.kind


def node(name: str, kind: str, *children: Node) -> Node:
    return Node(name, kind, tuple(sorted(children, key=_order)))


@dataclass
class Trace:
    """The spans of one request."""

    receiver: Receiver
    request_id: str
    trace_id: bytes = field(default=b"")

    def spans(self) -> list[Span]:
        """Those of the request's trace that have come so far, each once."""
        if not self.trace_id:
            known = [span for span in self.receiver.spans if told(span).get("bitlane.request.id") == self.request_id]
            if not known:
                return []
            self.trace_id = known[0].trace_id
        return [span for span in self.receiver.spans if span.trace_id == self.trace_id]

    def named(self, name: str, kind: str | None = None) -> list[Span]:
        """The oldest first."""
        found = [span for span in self.spans() if span.name == name and kind in (None, KINDS[span.kind])]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def one(self, name: str, kind: str | None = None) -> Span:
        (span,) = self.named(name, kind)
        return span

    def wait_for(self, *names: str) -> None:
        """Until a span of each name has come; a name that stands there twice, two."""
        self.receiver.wait(lambda _: all(len(self.named(name)) >= names.count(name) for name in names))


def told(span: Span) -> dict[str, object]:
    return dict(attributes(span.attributes))
