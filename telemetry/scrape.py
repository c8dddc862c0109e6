"""The endpoint that Prometheus scrapes, with exemplars for whoever asks in the OpenMetrics format.

Prometheus asks so by itself, and keeps them when it runs with --enable-feature=exemplar-storage. OpenTelemetry's own
exporter for Prometheus drops them.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from telemetry.environment import TelemetryConfigError
from telemetry.instruments import AnyInstrument, Histogram, HistogramPoint, Kind, Registry
from telemetry.naming import label_name, prometheus_name


class ScrapeEndpoint:
    """Serves `/metrics` from threads of its own until it is closed."""

    def __init__(self, registry: Registry, resource: Mapping[str, str], host: str, port: int) -> None:
        """Raises TelemetryConfigError when the address cannot be listened on."""
        collectors = CollectorRegistry(auto_describe=False)
        collectors.register(_Collector(registry, resource))
        self._server: WSGIServer
        self._thread: Thread
        try:
            self._server, self._thread = start_http_server(port, host, collectors)
        except OSError as error:
            where = f"OTEL_EXPORTER_PROMETHEUS_HOST, OTEL_EXPORTER_PROMETHEUS_PORT: cannot listen on {host}:{port}"
            raise TelemetryConfigError(f"{where}: {error.strerror or error}") from None

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Collector(Collector):
    def __init__(self, registry: Registry, resource: Mapping[str, str]) -> None:
        self._registry = registry
        self._target = InfoMetricFamily("target", "What this process is.")
        self._target.add_metric([], {label_name(name): value for name, value in resource.items()})

    def collect(self) -> Iterator[Metric]:
        yield self._target
        for each in self._registry.instruments:
            family = _family(each)
            if family.samples:
                yield family


def _family(each: AnyInstrument) -> Metric:
    told = each.instrument
    name, names = prometheus_name(told), [label_name(attribute) for attribute in told.attributes]
    if isinstance(each, Histogram):
        histogram = HistogramMetricFamily(name, told.description, labels=names)
        for point in each.points():
            histogram.add_metric(point.labels, _buckets(told.boundaries, point), point.total)
        return histogram
    number = CounterMetricFamily if told.kind is Kind.COUNTER else GaugeMetricFamily
    family = number(name, told.description, labels=names)
    for point in each.points():
        family.add_metric(point.labels, point.value)
    return family


def _buckets(
    boundaries: tuple[float, ...], point: HistogramPoint
) -> list[tuple[str, float] | tuple[str, float, PrometheusExemplar]]:
    exemplars = dict(point.exemplars)
    buckets: list[tuple[str, float] | tuple[str, float, PrometheusExemplar]] = []
    bounds = [*(floatToGoString(bound) for bound in boundaries), "+Inf"]
    for number, (bound, count) in enumerate(zip(bounds, accumulate(point.counts), strict=True)):
        exemplar = exemplars.get(number)
        if exemplar is None:
            buckets.append((bound, count))
            continue
        where = {"trace_id": f"{exemplar.where.trace_id:032x}", "span_id": f"{exemplar.where.span_id:016x}"}
        buckets.append((bound, count, PrometheusExemplar(where, exemplar.value, exemplar.time_ns / 1e9)))
    return buckets
