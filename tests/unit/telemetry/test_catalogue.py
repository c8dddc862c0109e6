"""The catalogue is whole and bounded, and docs/observability.md says what it says."""

import re
from pathlib import Path
from typing import get_args

from telemetry import catalogue
from telemetry.attempts import WorkerTelemetry
from telemetry.attributes import ALLOWED_ON_SPANS, MetricAttribute
from telemetry.calls import RouterTelemetry
from telemetry.instruments import Instrument, Kind
from telemetry.naming import prometheus_name
from telemetry.setup import no_telemetry
from telemetry.tenants import TenantLabels

_DOC = (Path(__file__).resolve().parents[3] / "docs" / "observability.md").read_text(encoding="utf-8")


def _row(each: Instrument) -> str:
    attributes = ", ".join(f"`{attribute}`" for attribute in each.attributes)
    name = prometheus_name(each)
    return f"| `{each.name}` | `{name}` | {each.kind.value}, {each.unit} | {attributes} | {each.description} |"


def test_the_page_lists_every_metric_and_no_other() -> None:
    rows = [line for line in _DOC.splitlines() if re.match(r"\| `[\w.]+` \| `\w+` \| (counter|gauge|histogram)", line)]
    assert rows == [_row(each) for each in catalogue.CATALOGUE]


def test_the_page_names_no_attribute_that_does_not_exist() -> None:
    named = set(re.findall(r"`((?:bitlane|gen_ai|rpc|messaging)\.[a-z_.]+[a-z])`", _DOC))
    metrics = {"rpc.end", *(each.name for each in catalogue.CATALOGUE)}
    resource = {"bitlane.pool", "bitlane.precision", "bitlane.gpu.name", "bitlane.gpu.sm"}
    assert named <= metrics | ALLOWED_ON_SPANS | set(get_args(MetricAttribute)) | resource


def test_names_are_unique_in_both_worlds() -> None:
    assert len({each.name for each in catalogue.CATALOGUE}) == len(catalogue.CATALOGUE)
    assert len({prometheus_name(each) for each in catalogue.CATALOGUE}) == len(catalogue.CATALOGUE)


def test_histograms_have_rising_bounds_and_others_none() -> None:
    for each in catalogue.CATALOGUE:
        assert bool(each.boundaries) is (each.kind is Kind.HISTOGRAM)
        assert list(each.boundaries) == sorted(set(each.boundaries))


def test_no_metric_has_an_attribute_without_bound() -> None:
    unbounded = {
        "bitlane.request.id",
        "gen_ai.conversation.id",
        "bitlane.worker",
        "bitlane.decision.rule",
        "service.instance.id",
    }
    for each in catalogue.CATALOGUE:
        assert not unbounded & set(each.attributes)
        assert set(each.attributes) <= set(get_args(MetricAttribute))


def test_a_router_and_a_worker_have_all_instruments_between_them() -> None:
    router, worker = no_telemetry(), no_telemetry()
    RouterTelemetry(router, TenantLabels())
    WorkerTelemetry(worker, worker="w", pool="m/fp4", engine="scripted")
    made = {each.instrument.name for process in (router, worker) for each in process.registry.instruments}
    assert made == {each.name for each in catalogue.CATALOGUE}
