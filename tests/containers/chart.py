"""The Helm chart, rendered by Helm's own code."""
# pyright: basic

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from tests.containers.images import ROOT

CHART = ROOT / "deploy" / "kubernetes" / "bitlane"
Manifest = dict[str, Any]


def values(name: str) -> dict[str, Any]:
    """The values of an example in the chart's ci folder."""
    return yaml.safe_load((CHART / "ci" / f"{name}.yaml").read_text(encoding="utf-8"))


def render(given: Mapping[str, Any], release: str = "demo") -> list[Manifest]:
    """The manifests that an installation with these values would make. Raises what Helm raises."""
    helm = pytest.importorskip("helm_python")
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(dict(given), name=release, namespace="inference")
    return [
        manifest
        for name, text in files.items()
        if name.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Those of a kind, by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Pod templates by the name of what makes the pods."""
    makers = of_kind(manifests, "Deployment") | of_kind(manifests, "StatefulSet")
    return {name: maker["spec"]["template"] for name, maker in makers.items()}


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a selector's labels are all among an object's."""
    return selector.items() <= labels.items()
