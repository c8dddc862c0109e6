"""A real OTLP receiver over gRPC on loopback, that keeps what it gets. It can also be told never to answer."""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Value = str | int | float | bool | list[str] | None


@dataclass(eq=False)
class Receiver(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):
    """What was received, oldest first."""

    spans: list[Span] = field(default_factory=list[Span])
    metrics: list[list[Metric]] = field(default_factory=list[list[Metric]])  # of each export
    resources: list[dict[str, Value]] = field(default_factory=list[dict[str, Value]])
    raw: list[bytes] = field(default_factory=list[bytes])
    requests: int = 0
    answering: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802  # the RPC's name
        self.requests += 1
        while not self.answering.wait(0.05):
            if not context.is_active():
                break
        self.raw.append(request.SerializeToString())
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            for resource_spans in request.resource_spans:
                self.resources.append(attributes(resource_spans.resource.attributes))
                for scope in resource_spans.scope_spans:
                    self.spans.extend(scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()
        for resource_metrics in request.resource_metrics:
            self.resources.append(attributes(resource_metrics.resource.attributes))
            self.metrics.append([metric for scope in resource_metrics.scope_metrics for metric in scope.metrics])
        return metrics_service_pb2.ExportMetricsServiceResponse()

    def spans_named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def metric(self, name: str) -> Metric:
        """The newest of this name."""
        return next(metric for metrics in reversed(self.metrics) for metric in metrics if metric.name == name)

    def wait(self, condition: Callable[["Receiver"], bool], timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition(self):
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.01)


@contextmanager
def receiver(*, answering: bool = True) -> Generator[Receiver]:
    """Runs one on a free port of loopback."""
    servicer = Receiver()
    if answering:
        servicer.answering.set()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)  # pyright: ignore[reportUnknownMemberType]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(servicer, server)  # pyright: ignore[reportUnknownMemberType]
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer
    finally:
        servicer.answering.set()
        server.stop(None).wait()


def attributes(pairs: Any) -> dict[str, Value]:
    """OTLP's attributes as a dict."""
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Value:
    kind = pair.value.WhichOneof("value")
    if kind == "array_value":
        return [each.string_value for each in pair.value.array_value.values]
    return None if kind is None else getattr(pair.value, kind)
