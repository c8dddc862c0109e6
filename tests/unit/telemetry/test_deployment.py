"""Dashboards, rules, alerts and the collector's configuration fit to each other and to the metrics that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.generate import FOLDER, rendered
from telemetry import catalogue
from telemetry.naming import label_name, series_names
from tests.unit.telemetry.promql import Names, names_in

_ROOT = Path(__file__).resolve().parents[3]
_PROMETHEUS = _ROOT / "deploy" / "prometheus"
# Labels that every series has from Prometheus or the collector, and those of a histogram's buckets.
_GIVEN = frozenset({"le", "instance", "job"})
_VARIABLES = {"$__rate_interval": "5m", "$tenant": ".*", "$pool": ".*"}

_ATTRIBUTES = {
    name: {label_name(attribute) for attribute in instrument.attributes}
    for instrument in catalogue.CATALOGUE
    for name in series_names(instrument)
}


def _rules(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((_PROMETHEUS / name).read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


_RECORDED = {rule["record"] for rule in _rules("rules.yml")}


def _dashboard_queries() -> Iterator[tuple[str, str]]:
    for path in sorted(FOLDER.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{path.stem}: ${variable['name']}", variable["definition"]


_QUERIES = [
    *_dashboard_queries(),
    *((f"rule {rule['record']}", rule["expr"]) for rule in _rules("rules.yml")),
    *((f"alert {rule['alert']}", rule["expr"]) for rule in _rules("alerts.yml")),
]


def _names(expression: str) -> Names:
    # label_values(metric, label) is Grafana's, not PromQL.
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", expression)
    return Names({asked[1]}, {asked[1]: {asked[2]}}) if asked else names_in(expression)


@pytest.mark.parametrize(("where", "expression"), _QUERIES, ids=[where for where, _ in _QUERIES])
def test_every_query_names_metrics_and_labels_that_exist(where: str, expression: str) -> None:
    names = _names(expression)
    assert names.metrics
    assert names.metrics <= set(_ATTRIBUTES) | _RECORDED
    for metric, labels in names.matched.items():
        known = _ATTRIBUTES.get(metric)
        if known is not None:
            assert labels <= known | _GIVEN, metric
    known_anywhere = set[str]().union(*_ATTRIBUTES.values()) | _GIVEN
    assert names.grouped <= known_anywhere


def test_the_reader_of_queries_reads() -> None:
    names = names_in(
        'histogram_quantile(0.9, sum by (le, pool) (rate(a_bucket{x="b{c}", y=~"d"}[$__rate_interval]))) > 1e-3'
        " and on (pool) e:f:g offset 5m or vector(0)"
    )
    assert names.metrics == {"a_bucket", "e:f:g"}
    assert names.matched == {"a_bucket": {"x", "y"}}
    assert names.grouped == {"le", "pool"}


def test_every_metric_is_on_a_dashboard_or_in_a_rule() -> None:
    used = set[str]().union(*(_names(expression).metrics for _, expression in _QUERIES))
    unused = [i.name for i in catalogue.CATALOGUE if not used & set(series_names(i))]
    assert unused == []


def test_every_rule_is_used() -> None:
    used = set[str]().union(*(_names(expression).metrics for _, expression in _QUERIES))
    assert set(_RECORDED) - used == set()


def test_the_dashboards_are_what_their_source_makes() -> None:
    """If not: `python -m deploy.grafana.generate`."""
    kept = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert kept == rendered()


def test_dashboards_take_their_data_source_from_a_variable_and_have_fixed_uids() -> None:
    uids: list[str] = []
    for text in rendered().values():
        board = json.loads(text)
        uids.append(board["uid"])
        variables = {variable["name"]: variable for variable in board["templating"]["list"]}
        assert variables["datasource"]["type"] == "datasource"
        for panel in board["panels"]:
            if panel["type"] != "row":
                assert panel["datasource"]["uid"] == "${datasource}"
                assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        used = set(re.findall(r"\$(\w+)", " ".join(t["expr"] for p in board["panels"] for t in p.get("targets", ()))))
        assert used - {"__rate_interval"} <= set(variables)
    assert len(set(uids)) == len(uids) == 6


def test_the_data_sources_are_those_that_the_dashboards_offer_first() -> None:
    path = _ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "bitlane.yaml"
    sources = {source["uid"]: source for source in yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]}
    board = json.loads(rendered()["overview.json"])
    assert board["templating"]["list"][0]["current"]["value"] in sources
    (link,) = sources["bitlane-prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    # telemetry.scrape and the collector both name the label so.
    assert (link["name"], link["datasourceUid"] in sources) == ("trace_id", True)


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    alerts = _rules("alerts.yml")
    assert {alert["labels"]["severity"] for alert in alerts} == {"page", "ticket"}
    assert all(alert["annotations"]["summary"] and alert["annotations"]["description"] for alert in alerts)
    assert len({alert["alert"] for alert in alerts}) == len(alerts)


def test_every_alert_has_a_test() -> None:
    tested = " ".join(path.read_text(encoding="utf-8") for path in (_PROMETHEUS / "tests").glob("*.yml"))
    assert [alert["alert"] for alert in _rules("alerts.yml") if alert["alert"] not in tested] == []


def test_the_thresholds_of_objectives_are_bounds_of_buckets() -> None:
    bounds = {f"{bound:g}" for bound in catalogue.FIRST_TOKEN.boundaries}
    texts = [(_PROMETHEUS / name).read_text(encoding="utf-8") for name in ("rules.yml", "alerts.yml")]
    assert set(re.findall(r'le="([^"]+)"', " ".join(texts))) <= bounds
    # A whole number would be written 1 by some and 1.0 by others.
    assert not [bound for bound in re.findall(r'le="([^"]+)"', " ".join(texts)) if float(bound).is_integer()]


def test_the_collector_uses_what_it_defines() -> None:
    config = yaml.safe_load((_ROOT / "deploy" / "otel" / "collector.yaml").read_text(encoding="utf-8"))
    pipelines = config["service"]["pipelines"]
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines.values() for name in pipeline[kind]}
        assert used == set(config[kind])
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    for pipeline in pipelines.values():
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["processors"][-1] == "batch"
    policies = {policy["name"]: policy for policy in config["processors"]["tail_sampling"]["policies"]}
    assert set(policies) == {"errors", "slow", "migrated", "the-rest"}
    assert all(policy["type"] in policy for policy in policies.values())
    told = json.dumps(policies)
    from telemetry.attributes import ALLOWED_ON_SPANS  # noqa: PLC0415

    assert set(re.findall(r"(?:bitlane|gen_ai)\.[\w.]+", told)) <= ALLOWED_ON_SPANS


def test_prometheus_scrapes_the_port_that_the_collector_serves() -> None:
    config = yaml.safe_load((_PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    collector = yaml.safe_load((_ROOT / "deploy" / "otel" / "collector.yaml").read_text(encoding="utf-8"))
    port = collector["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "bitlane")
    assert job["honor_labels"] is True
    assert job["static_configs"][0]["targets"][0].endswith(f":{port}")


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: tools/check_alerts.sh --install"
)


@needs_promtool
def test_every_dashboard_query_is_promql(tmp_path: Path) -> None:
    rules: list[dict[str, str]] = []
    for number, (_, expression) in enumerate(_dashboard_queries()):
        if not expression.startswith("label_values"):
            for variable, value in _VARIABLES.items():
                expression = expression.replace(variable, value)
            rules.append({"record": f"query:number:{number}", "expr": expression})
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.timeout(180)
def test_rules_and_alerts_pass_their_own_tests() -> None:
    done = subprocess.run([_ROOT / "tools" / "check_alerts.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
