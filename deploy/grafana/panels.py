"""Rows of panels, and the JSON that Grafana wants for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Json = dict[str, object]
Look = Literal["timeseries", "stat", "heatmap", "table", "bargauge"]

_WIDTH = 24  # of Grafana's grid
_HEIGHTS: dict[Look, int] = {"timeseries": 8, "stat": 4, "heatmap": 8, "table": 9, "bargauge": 9}
_DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """PromQL, and what its lines are called: `{{label}}` stands for a label's value."""

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture. Units are Grafana's: s, reqps, percentunit, short."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    look: Look = "timeseries"
    about: str = ""
    stacked: bool = False

    def render(self, number: int, place: Json) -> Json:
        table = self.look == "table"
        targets: list[Json] = [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "exemplar": query.exemplars,
                "instant": table,
                "range": not table,
                "format": "heatmap" if self.look == "heatmap" else "table" if table else "time_series",
            }
            for index, query in enumerate(self.queries)
        ]
        custom: Json = {"fillOpacity": 30, "stacking": {"mode": "normal", "group": "A"}} if self.stacked else {}
        return {
            "id": number,
            "type": self.look,
            "title": self.title,
            "description": self.about,
            "datasource": _DATASOURCE,
            "gridPos": place,
            "targets": targets,
            "fieldConfig": {"defaults": {"unit": self.unit, "custom": custom}, "overrides": []},
            "options": self._options(),
        }

    def _options(self) -> Json:
        reduced: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        match self.look:
            case "timeseries":
                return {
                    "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }
            case "stat":
                return {"reduceOptions": reduced, "graphMode": "area", "colorMode": "value"}
            case "bargauge":
                return {"reduceOptions": reduced, "orientation": "horizontal", "displayMode": "basic"}
            case "heatmap":
                return {"calculate": False, "yAxis": {"unit": self.unit}, "exemplars": {"color": "orange"}}
            case "table":
                return {"showHeader": True}


@dataclass(frozen=True)
class Board:
    """A dashboard: its rows, each with a title and panels that share its width."""

    name: str  # of the file, and the end of the uid
    title: str
    about: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    variables: tuple[tuple[str, str, str], ...] = ()  # name, label in the picture, query for its values

    @property
    def panels(self) -> Sequence[Panel]:
        return [panel for _, panels in self.rows for panel in panels]

    def render(self) -> Json:
        return {
            "uid": f"bitlane-{self.name}",
            "title": self.title,
            "description": self.about,
            "tags": ["bitlane"],
            "editable": False,
            "schemaVersion": 39,
            "time": {"from": "now-1h", "to": "now"},
            "refresh": "10s",
            "links": [{"type": "dashboards", "tags": ["bitlane"], "asDropdown": False, "title": ""}],
            "templating": {"list": [_datasource_variable(), *(_variable(*each) for each in self.variables)]},
            "panels": self._placed(),
        }

    def _placed(self) -> list[Json]:
        placed: list[Json] = []
        y = 0
        for title, panels in self.rows:
            row: Json = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
            placed.append({"id": len(placed) + 1, "type": "row", "title": title, "gridPos": row, "panels": []})
            height = max(_HEIGHTS[panel.look] for panel in panels)
            width = _WIDTH // len(panels)
            for column, panel in enumerate(panels):
                place: Json = {"h": height, "w": width, "x": column * width, "y": y + 1}
                placed.append(panel.render(len(placed) + 1, place))
            y += 1 + height
        return placed


def _datasource_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {"text": "bitlane-prometheus", "value": "bitlane-prometheus"},
    }


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "sort": 1,
        "current": {"text": "All", "value": "$__all"},
    }
