"""Metrics as a real receiver and a real scrape get them: the same names, figures and exemplars both ways."""

import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,  # pyright: ignore[reportUnknownVariableType]
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from telemetry import catalogue
from telemetry.calls import RouterTelemetry
from telemetry.environment import TelemetryConfigError
from telemetry.instruments import MAX_SERIES
from telemetry.naming import prometheus_name, series_names
from telemetry.setup import Telemetry
from telemetry.tenants import TenantLabels
from tests.contract.telemetry.receiver import Receiver, Value, attributes, receiver

_CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_GENERATE = "bitlane.v1.InferenceService/Generate"


@pytest.fixture
def otlp() -> Iterator[Receiver]:
    with receiver() as servicer:
        yield servicer


@pytest.fixture
def telemetry(otlp: Receiver) -> Iterator[Telemetry]:
    telemetry = Telemetry(
        "router",
        "r-1",
        {},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "50",
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        },
    )
    yield telemetry
    telemetry.close()


def _serve(router: RouterTelemetry) -> None:
    call = router.call(_GENERATE, [("traceparent", _CLIENT)])
    call.tenant = "acme"
    call.decided(
        operation="chat",
        model="m",
        pool="m/fp4",
        precision="FP4",
        reason="low_sensitivity",
        rule="",
        policy_version="acme-3",
        task="chat",
        source="classifier",
        confidence=0.9,
        gate="passed",
    )
    with call.relay():
        call.first_token()
    call.ended("stop", attempts=1, prompt_tokens=10, cached_prompt_tokens=0, output_tokens=3, cost_nanos=1_500_000_000)
    call.end("OK")


def _scrape(telemetry: Telemetry, accept: str) -> tuple[str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{telemetry.scrape_port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def test_a_receiver_gets_sums_buckets_and_exemplars(otlp: Receiver, telemetry: Telemetry) -> None:
    router = RouterTelemetry(telemetry, TenantLabels(["acme"]))
    router.streams.observe(lambda: [(7, ())])
    _serve(router)
    otlp.wait(lambda got: any("gen_ai.server" in metric.name for metrics in got.metrics for metric in metrics))
    first: Metric = otlp.metric("gen_ai.server.time_to_first_token")
    assert (first.unit, first.description) == ("s", catalogue.FIRST_TOKEN.description)
    (point,) = first.histogram.data_points
    assert first.histogram.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert tuple(point.explicit_bounds) == catalogue.FIRST_TOKEN.boundaries
    assert (point.count, sum(point.bucket_counts)) == (1, 1)
    assert attributes(point.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "bitlane",
        "gen_ai.request.model": "m",
        "bitlane.pool": "m/fp4",
        "bitlane.tenant": "acme",
    }
    (exemplar,) = point.exemplars
    assert exemplar.trace_id.hex() == _CLIENT.split("-")[1]
    cost = otlp.metric("bitlane.cost").sum
    assert cost.is_monotonic
    assert [point.as_double for point in cost.data_points] == [1.5]
    assert [point.as_double or point.as_int for point in otlp.metric("bitlane.streams").gauge.data_points] == [7]
    assert otlp.resources[-1]["service.instance.id"] == "r-1"


def test_many_series_go_out_in_several_messages(otlp: Receiver, telemetry: Telemetry) -> None:
    counter = telemetry.registry.counter(catalogue.MIGRATIONS)
    for number in range(MAX_SERIES):
        counter.add(1, (f"pool-{number}",))
    histogram = telemetry.registry.histogram(catalogue.PREFILL)
    for number in range(500):
        histogram.record(1, (f"pool-{number}",))
    telemetry.close()
    pools: dict[str, set[Value]] = {}
    for message in otlp.metrics:
        points = [(m.name, point) for m in message for point in (*m.sum.data_points, *m.histogram.data_points)]
        assert len(points) <= 2000
        for name, point in points:
            pools.setdefault(name, set()).add(attributes(point.attributes).get("bitlane.pool"))
    assert len(pools[catalogue.MIGRATIONS.name]) == MAX_SERIES
    assert len(pools[catalogue.PREFILL.name]) == 500


def test_prometheus_gets_the_same_with_exemplars_in_openmetrics(telemetry: Telemetry) -> None:
    router = RouterTelemetry(telemetry, TenantLabels(["acme"]))
    router.streams.observe(lambda: [(7, ())])
    _serve(router)
    text, kind = _scrape(telemetry, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    samples = [sample for family in parse_openmetrics(text) for sample in family.samples]
    exemplars = [sample.exemplar for sample in samples if sample.exemplar and "first_token" in sample.name]
    assert [exemplar.labels["trace_id"] for exemplar in exemplars] == [_CLIENT.split("-")[1]]
    (target,) = (sample for sample in samples if sample.name == "target_info")
    assert target.labels["service_name"] == "bitlane-router"

    text, kind = _scrape(telemetry, "text/plain")
    assert kind.startswith("text/plain")
    plain = {(s.name, s.labels.get("le")): s for family in parse_text(text) for s in family.samples}
    assert plain["bitlane_cost_total", None].value == 1.5
    assert plain["bitlane_cost_total", None].labels["bitlane_tenant"] == "acme"
    assert plain["bitlane_streams", None].value == 7
    assert plain["gen_ai_server_time_to_first_token_seconds_bucket", "2.5"].value == 1
    assert plain["gen_ai_server_time_to_first_token_seconds_bucket", "+Inf"].value == 1
    assert plain["gen_ai_server_time_to_first_token_seconds_count", None].value == 1
    names = {name for instrument in catalogue.CATALOGUE for name in series_names(instrument)}
    assert {name for name, _ in plain} - names == {"target_info"}


def test_names_in_prometheus_follow_the_rules_that_collectors_use() -> None:
    expected = {
        catalogue.CALL_DURATION: "rpc_server_call_duration_seconds",
        catalogue.FIRST_TOKEN: "gen_ai_server_time_to_first_token_seconds",
        catalogue.REQUESTS: "bitlane_requests_total",
        catalogue.CONFIDENCE: "bitlane_classifier_confidence",
        catalogue.QUEUE_AGE: "bitlane_queue_age_seconds",
        catalogue.FP8_COST: "bitlane_cost_fp8_total",
        catalogue.GATE_STATE: "bitlane_gate_state",
    }
    assert {instrument: prometheus_name(instrument) for instrument in expected} == expected


def test_the_scrape_port_is_free_again_after_the_end(otlp: Receiver) -> None:
    environ = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    environ["OTEL_EXPORTER_PROMETHEUS_HOST"] = "127.0.0.1"
    first = Telemetry("router", "r-1", {}, environ)
    with pytest.raises(TelemetryConfigError, match=r"PROMETHEUS_PORT: cannot listen on .* in use"):
        Telemetry("router", "r-2", {}, {**environ, "OTEL_EXPORTER_PROMETHEUS_PORT": str(first.scrape_port)})
    first.close()
    second = Telemetry("router", "r-2", {}, {**environ, "OTEL_EXPORTER_PROMETHEUS_PORT": str(first.scrape_port)})
    second.close()
