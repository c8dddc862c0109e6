"""Every query that the project ships: of its dashboards, its recording rules, its alerts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.grafana.generate import FOLDER
from tests.unit.telemetry.promql import Names, names_in

PROMETHEUS = Path(__file__).resolve().parents[3] / "deploy" / "prometheus"


def rules_of(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


# Names of what the rules make.
RECORDED = {rule["record"] for rule in rules_of("rules.yml")}


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Where each stands, and the query."""
    for path in sorted(FOLDER.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{path.stem}: ${variable['name']}", variable["definition"]


QUERIES = [
    *dashboard_queries(),
    *((f"rule {rule['record']}", rule["expr"]) for rule in rules_of("rules.yml")),
    *((f"alert {rule['alert']}", rule["expr"]) for rule in rules_of("alerts.yml")),
]


def query_names(expression: str) -> Names:
    """The metrics and labels that a query names."""
    # label_values(metric, label) is Grafana's, not PromQL.
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", expression)
    return Names({asked[1]}, {asked[1]: {asked[2]}}) if asked else names_in(expression)
