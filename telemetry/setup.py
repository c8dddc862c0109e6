"""The telemetry of one process, set up once from the standard OTEL_* variables.

Without an endpoint there is no exporter, no thread and no cost.
"""

import os
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import structlog
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from telemetry import catalogue
from telemetry.attributes import MAX_TEXT, ResourceAttributes
from telemetry.environment import TelemetryConfigError, TelemetrySettings
from telemetry.instruments import Observations, Registry
from telemetry.span_queue import SpanQueue
from telemetry.spans import SpanIds, Spans

_log = structlog.get_logger("bitlane.telemetry")
_CLOSE_S = 2.0


class Telemetry:
    """Spans and metrics of this process; close it last."""

    def __init__(self, service: str, instance: str, attributes: ResourceAttributes, environ: Mapping[str, str]) -> None:
        self.settings = settings = TelemetrySettings.read(environ)
        self.resource = _resource(service, instance, attributes)
        self.registry = Registry(enabled=bool(settings.metrics_endpoint or settings.prometheus))
        self.spans = Spans()
        self.span_queue: SpanQueue | None = None
        self._provider: TracerProvider | None = None
        self._pusher = None
        self._endpoint = None
        if settings.traces_endpoint:
            self._trace(settings)
        if settings.metrics_endpoint:
            from telemetry.otlp import MetricPusher, metric_exporter  # noqa: PLC0415  # see there

            exporter = metric_exporter(settings.metrics_endpoint)
            self._pusher = MetricPusher(self.registry, self.resource, exporter, settings.metric_interval_s)
        if settings.prometheus:
            from telemetry.scrape import ScrapeEndpoint  # noqa: PLC0415  # needed by few

            self._endpoint = ScrapeEndpoint(self.registry, _texts(self.resource), *settings.prometheus)
        self.registry.observed(catalogue.SPANS).observe(self._span_counts)
        self.registry.observed(catalogue.EXPORTS).observe(self._export_counts)

    @property
    def scrape_port(self) -> int | None:
        """Where Prometheus may ask; None: nowhere."""
        return self._endpoint.port if self._endpoint else None

    def close(self) -> None:
        """Exports what is left, and gives up after 2 s. Blocks: call it after the event loop, or in a thread."""
        deadline = time.monotonic() + _CLOSE_S
        if self._endpoint:
            self._endpoint.close()
        # Half the time for each: spans first, so that the last metrics tell their fate.
        if self.span_queue:
            self.span_queue.close(time.monotonic() + _CLOSE_S / 2 if self._pusher else deadline)
        if self._pusher:
            self._pusher.close(deadline)

    def _trace(self, settings: TelemetrySettings) -> None:
        from telemetry.otlp import span_exporter  # noqa: PLC0415  # see there

        self.span_queue = SpanQueue(
            span_exporter(settings.traces_endpoint),
            most=settings.queue_spans,
            batch=settings.batch_spans,
            delay_s=settings.batch_delay_s,
        )
        ids = SpanIds()
        self._provider = TracerProvider(
            sampler=settings.sampler,
            resource=self.resource,
            id_generator=ids,
            span_limits=SpanLimits(max_attribute_length=MAX_TEXT, max_span_attribute_length=MAX_TEXT),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self.span_queue)
        self.spans = Spans(self._provider.get_tracer("bitlane"), ids, parent_decides=settings.parent_decides)

    def _span_counts(self) -> Observations:
        queue = self.span_queue
        if queue is None:
            return ()
        return ((queue.exported, ("exported",)), (queue.dropped, ("dropped",)), (queue.failed, ("failed",)))

    def _export_counts(self) -> Observations:
        sources = (self.span_queue, "traces"), (self._pusher, "metrics")
        for source, signal in sources:
            if source is not None:
                yield source.health.succeeded, (signal, "ok")
                yield source.health.failed, (signal, "failed")


def set_up_telemetry(service: str, instance: str, attributes: ResourceAttributes | None = None) -> Telemetry:
    """Sets up the spans and metrics of this process, from the environment. Call it once, after `set_up_logging`.

    Args:
        service: "router" or "worker"; OTEL_SERVICE_NAME wins over it.
        instance: unique among the processes of the service.
        attributes: what else the process says of itself; OTEL_RESOURCE_ATTRIBUTES wins over them.

    Raises:
        TelemetryConfigError: a variable cannot be used.
    """
    telemetry = Telemetry(service, instance, attributes or {}, os.environ)
    settings = telemetry.settings
    _log.info(
        "telemetry.ready",
        traces=_shown(settings.traces_endpoint),
        metrics=_shown(settings.metrics_endpoint),
        sampler=settings.sampler.get_description() if settings.traces_endpoint else "",
        scrape_port=telemetry.scrape_port,
    )
    return telemetry


def no_telemetry() -> Telemetry:
    """One that exports nothing and serves nothing, whatever the environment says: for tests and tools."""
    return Telemetry("none", "none", {}, {})


def _resource(service: str, instance: str, attributes: ResourceAttributes) -> Resource:
    try:
        release = version("bitlane")
    except PackageNotFoundError:  # run from a checkout that was not installed
        release = "unknown"
    ours = {
        "service.name": f"bitlane-{service}",
        "service.namespace": "bitlane",
        "service.version": release,
        "service.instance.id": instance,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": version("opentelemetry-sdk"),
        **{name: value for name, value in cast("Mapping[str, str]", attributes).items() if value},
    }
    return Resource(ours).merge(OTELResourceDetector().detect())


def _shown(endpoint: str) -> str:
    """Without a password, which a URL may hold."""
    return endpoint.rpartition("@")[2]


def _texts(resource: Resource) -> dict[str, str]:
    return {name: str(value) for name, value in resource.attributes.items()}


__all__ = ["Telemetry", "TelemetryConfigError", "no_telemetry", "set_up_telemetry"]
