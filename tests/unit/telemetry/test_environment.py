"""The standard variables: their defaults, and faults that name themselves."""

import subprocess
import sys
import threading

import pytest

from telemetry.environment import TelemetryConfigError, TelemetrySettings
from telemetry.setup import Telemetry

_ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}


def test_without_an_endpoint_nothing_is_exported() -> None:
    settings = TelemetrySettings.read({})
    assert (settings.traces_endpoint, settings.metrics_endpoint, settings.prometheus) == ("", "", None)
    before = threading.active_count()
    telemetry = Telemetry("router", "r-1", {}, {})
    assert threading.active_count() == before
    assert (telemetry.span_queue, telemetry.scrape_port, telemetry.registry.enabled) == (None, None, False)
    telemetry.close()


def test_without_an_endpoint_no_exporter_is_even_loaded() -> None:
    code = (
        "import sys, telemetry.calls, telemetry.attempts\n"
        "from telemetry.setup import Telemetry\n"
        "Telemetry('router', 'r', {}, {})\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.exporter', 'prometheus_client'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_defaults_with_an_endpoint() -> None:
    settings = TelemetrySettings.read(_ENDPOINT)
    assert settings.traces_endpoint == settings.metrics_endpoint == "http://127.0.0.1:4317"
    assert settings.prometheus is None
    assert "TraceIdRatioBased{0.01}" in settings.sampler.get_description()
    assert settings.sampler.get_description().startswith("ParentBased")
    assert (settings.queue_spans, settings.batch_spans, settings.metric_interval_s) == (2048, 512, 60.0)


def test_each_signal_can_have_its_own_endpoint_or_none() -> None:
    traces = {**_ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces:4317", "OTEL_METRICS_EXPORTER": "none"}
    settings = TelemetrySettings.read(traces)
    assert (settings.traces_endpoint, settings.metrics_endpoint) == ("https://traces:4317", "")
    settings = TelemetrySettings.read({**_ENDPOINT, "OTEL_TRACES_EXPORTER": "none"})
    assert (settings.traces_endpoint, settings.metrics_endpoint) == ("", "http://127.0.0.1:4317")


def test_prometheus_is_served_when_it_is_asked_for_on_loopback_by_default() -> None:
    assert TelemetrySettings.read({"OTEL_METRICS_EXPORTER": "prometheus"}).prometheus == ("localhost", 9464)
    settings = TelemetrySettings.read(
        {**_ENDPOINT, "OTEL_METRICS_EXPORTER": "otlp, prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    )
    assert (settings.metrics_endpoint, settings.prometheus) == ("http://127.0.0.1:4317", ("localhost", 0))


def test_disabled_is_off() -> None:
    settings = TelemetrySettings.read({**_ENDPOINT, "OTEL_METRICS_EXPORTER": "prometheus", "OTEL_SDK_DISABLED": "true"})
    assert (settings.traces_endpoint, settings.metrics_endpoint, settings.prometheus) == ("", "", None)


@pytest.mark.parametrize(
    ("name", "argument", "description", "parent_decides"),
    [
        ("always_on", "", "AlwaysOnSampler", False),
        ("traceidratio", "0.5", "TraceIdRatioBased{0.5}", False),
        ("parentbased_always_on", "", "ParentBased{root:AlwaysOnSampler", True),
        ("parentbased_traceidratio", "0.25", "ParentBased{root:TraceIdRatioBased{0.25}", True),
        ("parentbased_traceidratio", "", "ParentBased{root:TraceIdRatioBased{1.0}", True),
    ],
)
def test_samplers(name: str, argument: str, description: str, parent_decides: bool) -> None:
    settings = TelemetrySettings.read({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert settings.sampler.get_description().startswith(description)
    assert settings.parent_decides is parent_decides


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "half"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_METRICS_EXPORTER", "statsd"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "70000"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
def test_a_bad_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(TelemetryConfigError, match=f"^{name}: "):
        TelemetrySettings.read({**_ENDPOINT, name: value})


def test_a_bad_exporter_setting_is_a_config_error_that_shows_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "secret-word")
    with pytest.raises(TelemetryConfigError, match="OTEL_EXPORTER_OTLP") as caught:
        Telemetry("router", "r-1", {}, _ENDPOINT)
    assert "secret-word" not in str(caught.value)


def test_the_environment_wins_over_what_the_process_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Telemetry("worker", "w-1", {"bitlane.pool": "m/fp4", "bitlane.gpu.name": ""}, {}).resource.attributes
    assert ours["service.name"] == "bitlane-worker"
    assert ours["service.namespace"] == "bitlane"
    assert ours["service.instance.id"] == "w-1"
    assert ours["service.version"]
    assert ours["bitlane.pool"] == "m/fp4"
    assert "bitlane.gpu.name" not in ours
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=i-7")
    theirs = Telemetry("worker", "w-1", {}, {}).resource.attributes
    assert theirs["service.name"] == "mine"
    assert theirs["service.instance.id"] == "i-7"
    assert theirs["deployment.environment.name"] == "test"
