"""All that the benchmarks have left, on one page with plots: `python -m bench.report [--results FOLDER]`.

Writes report.md and, beside it, a plot of the cases, of the peers and of growth, as far as each was measured.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers import cases as peers
from bench.results import FOLDER, load
from bench.service.report import CPU_REQUEST, FIRST_P50, STREAMS_A_SECOND, Column, Figure
from bench.service.variants import BITLANE, DIRECT, FLOOR
from bench.svg import Line, Row, axis_over, chart, dot_chart

_SECTIONS = {
    "service": "bitlane and the floor",
    "peers": "bitlane and other routers",
    "processes": "Router processes on one port",
    "growth": "Growth",
    "cold_start": "Cold start",
    "broker": "The broker's scripts alone",
    "policy": "A decision alone",
    "classifier": "The classifier alone",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().results
    found = {name: figures for name in _SECTIONS if (figures := load(name, folder)) is not None}
    if not found:
        print(f"bench.report: there are no figures in {folder}; make bench measures them", file=sys.stderr)
        return 1
    plots = {name: plot for name, figures in found.items() if (plot := _plot(name, figures))}
    for name, plot in plots.items():
        (folder / f"{name}.svg").write_text(plot, encoding="utf-8")
    (folder / "report.md").write_text(page(found, plots), encoding="utf-8")
    print(f"wrote {folder / 'report.md'} and {len(plots)} plots")
    return 0


def page(found: Mapping[str, Mapping[str, Any]], plots: Iterable[str]) -> str:
    """Everything, in Markdown."""
    machine = next(iter(found.values()))["machine"]
    lines = [
        "# What was measured",
        "",
        f"Python {machine['python']}, {machine['machine']}, {machine['cores']} cores. Medians (least-most).",
    ]
    for name, figures in found.items():
        lines += ["", f"## {_SECTIONS[name]}", ""]
        if name in plots:
            lines += [f"![{_SECTIONS[name]}]({name}.svg)", ""]
        lines.append(figures["markdown"])
    return "\n".join(lines) + "\n"


def _plot(name: str, figures: Mapping[str, Any]) -> str:
    """The plot of a benchmark; empty for one that has none."""
    if name == "service":
        return _cases(
            "Between client and model: CPU of a request in the proxy, ms",
            figures["cases"],
            {case: (case, CPU_REQUEST) for case in ("unary", "flood", "64 streams", "512 streams")},
        )
    if name == "peers":
        return _cases(
            "One model server, 64 tokens with 5 ms between them",
            figures["cases"],
            {
                "streams/s, 256 callers": (peers.FULL, STREAMS_A_SECOND),
                "first token, ms, 1 client": (peers.FIRST, FIRST_P50),
                "router CPU a stream, ms": (peers.FULL, CPU_REQUEST),
            },
        )
    if name == "growth":
        return _growth(figures["curves"])
    return ""


def _cases(title: str, cases: Mapping[str, Any], wanted: Mapping[str, tuple[str, Column]]) -> str:
    """A panel for each (case, column) that was measured, a line for each variant."""
    panels = {
        text: {
            variant: Figure.of(values)
            for variant, own in cases[case]["variants"].items()
            if None not in (values := own["columns"][column.name])
        }
        for text, (case, column) in wanted.items()
        if case in cases
    }
    if not panels:
        return ""
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    rows = [Row(name, [_dot(panel.get(name)) for panel in panels.values()], _colour(name)) for name in names]
    return dot_chart(title, [axis_over(text, _ends(panel.values())) for text, panel in panels.items()], rows)


def _colour(variant: str) -> int:
    """One for bitlane however it runs, one for each kind of thing that it is compared with."""
    return 0 if variant.startswith(BITLANE) else {DIRECT: 5, FLOOR: 2}.get(variant, 1)


def _dot(figure: Figure | None) -> tuple[float, float, float] | None:
    return None if figure is None else (figure.median, figure.least, figure.most)


def _ends(figures: Iterable[Figure]) -> list[float]:
    return [value for figure in figures for value in (figure.least, figure.most)]


def _subject(curve: Mapping[str, Any]) -> str:
    process = curve["what"].partition(" ")[0]
    return f"{process if curve['variant'] == BITLANE else curve['variant']}: {curve['grows']}"


def _growth(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """CPU by the number of what grows; 0 stands at 1, the axis being logarithmic."""
    lines = [
        Line(
            _subject(curve),
            [(max(1.0, float(n)), Figure.of(values).median) for n, values in curve["points"].items()],
            dashed=curve["what"].startswith("Redis"),
        )
        for own in curves.values()
        for curve in own
        if "CPU" in curve["what"]
    ]
    x, y = zip(*(point for line in lines for point in line.points), strict=True)
    return chart("CPU of a request, us, as n grows", axis_over("n", x), axis_over("us", y), lines)


if __name__ == "__main__":
    sys.exit(main())
