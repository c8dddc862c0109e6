"""Stands for the OpenTelemetry collector in the tests: takes OTLP over gRPC, and tells how much of what came."""
# pyright: basic

import sys
import threading
from collections import Counter
from concurrent import futures

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client import Counter as PrometheusCounter

_REGISTRY = CollectorRegistry()
_SPANS = PrometheusCounter("received_spans", "Spans.", ["service", "name"], registry=_REGISTRY)
_POINTS = PrometheusCounter("received_metrics", "Metrics in exports.", ["service", "name"], registry=_REGISTRY)


class Traces(traces_grpc.TraceServiceServicer):
    def Export(self, request, context):  # noqa: N802
        for resource in request.resource_spans:
            names = Counter(span.name for scope in resource.scope_spans for span in scope.spans)
            for name, count in names.items():
                _SPANS.labels(_service(resource.resource), name).inc(count)
        return traces.ExportTraceServiceResponse()


class Metrics(metrics_grpc.MetricsServiceServicer):
    def Export(self, request, context):  # noqa: N802
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    _POINTS.labels(_service(resource.resource), metric.name).inc()
        return metrics.ExportMetricsServiceResponse()


def _service(resource) -> str:
    return next((each.value.string_value for each in resource.attributes if each.key == "service.name"), "")


def main() -> int:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    traces_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    server.add_insecure_port("0.0.0.0:4317")
    server.start()
    for port in (8888, 8889):  # where Prometheus looks for the collector's own metrics, and for what it was sent
        start_http_server(port, registry=_REGISTRY)
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
