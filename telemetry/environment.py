"""What the standard OTEL_* variables say, read once at the start.

Those that are not here, such as OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS and the certificates, are read by
OpenTelemetry itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)

_SAMPLERS: dict[str, Callable[[float], Sampler]] = {
    "always_on": lambda _: ALWAYS_ON,
    "always_off": lambda _: ALWAYS_OFF,
    "traceidratio": TraceIdRatioBased,
    "parentbased_always_on": lambda _: ParentBased(ALWAYS_ON),
    "parentbased_always_off": lambda _: ParentBased(ALWAYS_OFF),
    "parentbased_traceidratio": lambda ratio: ParentBased(TraceIdRatioBased(ratio)),
}
_DEFAULT_SAMPLER, _DEFAULT_RATIO = "parentbased_traceidratio", 0.01


class TelemetryConfigError(ValueError):
    """An OTEL_* variable cannot be used; the text names it and says what can."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Where spans and metrics go, and how many."""

    traces_endpoint: str  # of an OTLP receiver over gRPC; empty: no traces
    metrics_endpoint: str  # the same for metrics
    prometheus: tuple[str, int] | None  # host and port to be scraped at; port 0 picks a free one
    sampler: Sampler
    parent_decides: bool  # whether the sampler never records what the caller does not
    metric_interval_s: float
    queue_spans: int  # spans that wait for the exporter at most; more are dropped and counted
    batch_spans: int
    batch_delay_s: float  # how long a span waits for others

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "TelemetrySettings":
        """Raises TelemetryConfigError."""
        source = _Source(environ)
        disabled = source.text("OTEL_SDK_DISABLED", "false").lower() == "true"
        traces = () if disabled else source.exporters("OTEL_TRACES_EXPORTER", ("otlp",))
        metrics = () if disabled else source.exporters("OTEL_METRICS_EXPORTER", ("otlp", "prometheus"))
        host = source.text("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost")
        port = int(source.number("OTEL_EXPORTER_PROMETHEUS_PORT", 9464, 0, 65535))
        queue = int(source.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1, 1_000_000))
        return cls(
            traces_endpoint=source.endpoint("TRACES") if "otlp" in traces else "",
            metrics_endpoint=source.endpoint("METRICS") if "otlp" in metrics else "",
            prometheus=(host, port) if "prometheus" in metrics else None,
            sampler=source.sampler(),
            parent_decides=source.sampler_name.startswith("parentbased_"),
            metric_interval_s=source.number("OTEL_METRIC_EXPORT_INTERVAL", 60_000, 10, 3_600_000) / 1000,
            queue_spans=queue,
            batch_spans=min(queue, int(source.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1, 1_000_000))),
            batch_delay_s=source.number("OTEL_BSP_SCHEDULE_DELAY", 1000, 1, 3_600_000) / 1000,
        )


class _Source:
    """Variables with their faults named."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        """An empty variable is an unset one, as the specification has it."""
        return self._environ.get(name, "").strip() or default

    def number(self, name: str, default: float, least: float, most: float) -> float:
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            raise TelemetryConfigError(f"{name}: {text!r} is no number") from None
        if not least <= value <= most:
            raise TelemetryConfigError(f"{name}: {text} is not within {least:g} and {most:g}")
        return value

    def exporters(self, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
        chosen = tuple(each.strip() for each in self.text(name, "otlp").split(",") if each.strip())
        unknown = [each for each in chosen if each not in (*known, "none")]
        if unknown:
            raise TelemetryConfigError(f"{name}: {unknown[0]!r} is none of {', '.join(known)}, none")
        return chosen

    def endpoint(self, signal: str) -> str:
        endpoint = self.text(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "")
        endpoint = endpoint or self.text("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            protocol = self.text(name, "")
            if endpoint and protocol not in ("", "grpc"):
                raise TelemetryConfigError(f"{name}: {protocol!r} is not built in; use grpc, on port 4317 as a rule")
        return endpoint

    @property
    def sampler_name(self) -> str:
        return self.text("OTEL_TRACES_SAMPLER", _DEFAULT_SAMPLER)

    def sampler(self) -> Sampler:
        name = self.sampler_name
        if name not in _SAMPLERS:
            raise TelemetryConfigError(f"OTEL_TRACES_SAMPLER: {name!r} is none of {', '.join(_SAMPLERS)}")
        # The specification's default for a ratio that is named but not given is 1.
        default = 1.0 if self.text("OTEL_TRACES_SAMPLER", "") else _DEFAULT_RATIO
        return _SAMPLERS[name](self.number("OTEL_TRACES_SAMPLER_ARG", default, 0, 1))
