"""Plots are XML that a browser reads, with a mark for everything that was measured."""

import xml.etree.ElementTree as ET
from typing import Any

from bench.report import page
from bench.svg import Axis, Line, Row, axis_over, chart, dot_chart

SVG = "{http://www.w3.org/2000/svg}"


def test_an_axis_reaches_over_its_values_in_powers_of_ten() -> None:
    axis = axis_over("ms", [0.3, 40.0])
    assert (axis.least, axis.most) == (0.1, 100.0)
    assert axis_over("ms", [10.0]).share(10.0) == 0.0


def test_a_dot_for_each_figure_and_none_for_what_is_missing() -> None:
    rows = [Row("a < b", [(10, 5, 20), None]), Row("c", [(1, 1, 1), (100, 90, 110)], colour=1)]
    root = ET.fromstring(dot_chart("Title & more", [Axis("x", 1, 100), Axis("y", 1, 1000)], rows))
    assert len(root.findall(f"{SVG}circle")) == 3
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"Title & more", "a < b", "c", "10", "100"} <= set(texts)


def test_a_line_chart_is_xml() -> None:
    root = ET.fromstring(chart("t", Axis("n", 1, 10), Axis("us", 1, 10), [Line("a", [(1, 2), (10, 3)])]))
    assert len(root.findall(f"{SVG}polyline")) == 1


def test_the_page_has_what_was_measured_and_its_plots() -> None:
    machine: dict[str, Any] = {"python": "3.11", "machine": "x86_64", "cores": 2}
    found = {"growth": {"machine": machine, "markdown": "| g |"}, "policy": {"machine": machine, "markdown": "| p |"}}
    text = page(found, ["growth"])
    assert "![Growth](growth.svg)" in text
    assert text.index("| g |") < text.index("| p |")
    assert "policy.svg" not in text
