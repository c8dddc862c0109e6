"""Exporting by OTLP over gRPC. Imported only where an endpoint is set: it brings 20 MB and a third of a second."""

import logging
import threading
import time
from collections.abc import Iterator

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Exemplar as OtelExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from telemetry.environment import TelemetryConfigError
from telemetry.health import ExportHealth
from telemetry.instruments import (
    AnyInstrument,
    Histogram,
    HistogramPoint,
    Instrument,
    Kind,
    Labels,
    NumberPoint,
    Registry,
)

SCOPE = "bitlane"
_CUMULATIVE = AggregationTemporality.CUMULATIVE
# Of one message: gRPC's receivers take 4 MiB by default, and a point of a histogram has some 500 bytes.
_MAX_POINTS = 2000
# Each failed try would be a line, and a bad header would be shown; telemetry.health says what matters.
_NOISY = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.util.re")


def span_exporter(endpoint: str) -> SpanExporter:
    """Raises TelemetryConfigError for settings that cannot work; does not connect."""
    _hush()
    try:
        return OTLPSpanExporter(endpoint=endpoint)
    except Exception as error:
        raise _bad_settings(error) from None


def metric_exporter(endpoint: str) -> MetricExporter:
    """The same for metrics."""
    _hush()
    try:
        return OTLPMetricExporter(endpoint=endpoint, max_export_batch_size=_MAX_POINTS)
    except Exception as error:
        raise _bad_settings(error) from None


def _hush() -> None:
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _bad_settings(error: Exception) -> TelemetryConfigError:
    return TelemetryConfigError(f"OTEL_EXPORTER_OTLP_*: the exporter cannot be made ({type(error).__name__})")


class MetricPusher:
    """Sends all metrics every so often, from a thread of its own; a receiver that is away costs a measurement's age."""

    def __init__(self, registry: Registry, resource: Resource, exporter: MetricExporter, interval_s: float) -> None:
        self.health = ExportHealth("metrics")
        self._registry = registry
        self._resource = resource
        self._exporter = exporter
        self._interval_s = interval_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry-metrics", daemon=True)
        self._thread.start()

    def close(self, deadline: float) -> None:
        """Sends a last time, and gives up at `deadline` (by `time.monotonic`)."""
        self._closing.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._exporter.shutdown()  # pyright: ignore[reportUnknownMemberType]

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            self._export()
        self._export()

    def _export(self) -> None:
        try:
            data = metrics_data(self._registry, self._resource)
            done = self._exporter.export(data)  # pyright: ignore[reportUnknownMemberType]
        except Exception as error:  # the next time may do better
            self.health.report(error)
        else:
            self.health.report(None if done is MetricExportResult.SUCCESS else "not taken")


def metrics_data(registry: Registry, resource: Resource) -> MetricsData:
    """What the instruments hold now, in OpenTelemetry's data model; sums and buckets since the process began."""
    now = time.time_ns()
    metrics = list(_metrics(registry, now))
    scope = ScopeMetrics(InstrumentationScope(SCOPE), metrics, schema_url="")
    return MetricsData([ResourceMetrics(resource, [scope], schema_url="")])


def _metrics(registry: Registry, now: int) -> Iterator[Metric]:
    start = registry.start_ns
    for each in registry.instruments:
        told = each.instrument
        data = _histogram(each, start, now) if isinstance(each, Histogram) else _numbers(each, start, now)
        if data.data_points:
            yield Metric(told.name, told.description, told.unit, data)


def _numbers(each: AnyInstrument, start: int, now: int) -> Sum | Gauge:
    told = each.instrument
    points = [
        NumberDataPoint(_attributes(told, point.labels), start, now, point.value)
        for point in each.points()
        if isinstance(point, NumberPoint)
    ]
    return Sum(points, _CUMULATIVE, is_monotonic=True) if told.kind is Kind.COUNTER else Gauge(points)


def _histogram(each: Histogram, start: int, now: int) -> HistogramData:
    return HistogramData([_histogram_point(each.instrument, p, start, now) for p in each.points()], _CUMULATIVE)


def _histogram_point(told: Instrument, point: HistogramPoint, start: int, now: int) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=_attributes(told, point.labels),
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=sum(point.counts),
        sum=point.total,
        bucket_counts=point.counts,
        explicit_bounds=told.boundaries,
        # Not kept: since the start of the process they would say little. None leaves the field out.
        min=None,  # pyright: ignore[reportArgumentType]
        max=None,  # pyright: ignore[reportArgumentType]
        exemplars=[
            OtelExemplar({}, exemplar.value, exemplar.time_ns, exemplar.where.span_id, exemplar.where.trace_id)
            for _, exemplar in point.exemplars
        ],
    )


def _attributes(told: Instrument, labels: Labels) -> dict[str, str]:
    return {name: value for name, value in zip(told.attributes, labels, strict=True) if value}
