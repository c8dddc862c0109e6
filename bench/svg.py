"""Charts on logarithmic axes, as SVG: lines, and dots with their spread. Enough for docs/, and nothing to install."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 210, 46, 52
_FONT = 'font-family="sans-serif" font-size="12" fill="#222"'
_DOTS_WIDTH, _DOTS_TOP, _DOTS_LINE = 900, 66, 26
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5aa8", "#b8860b", "#555555")


@dataclass(frozen=True, slots=True)
class Line:
    """One series; points whose value is not above 0 are left out."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """From the first value to the last, in powers of ten."""

    title: str
    least: float
    most: float

    def share(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        span = math.log10(self.most) - math.log10(self.least)
        return (math.log10(min(max(value, self.least), self.most)) - math.log10(self.least)) / span

    @property
    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
        return [10.0**n for n in decades if self.least <= 10.0**n * 1.001 and 10.0**n <= self.most * 1.001]


def chart(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """The whole file."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 24, title, size=15, weight="bold"),
    ]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for tick in x.ticks:
        at = _LEFT + x.share(tick) * (right - _LEFT)
        parts += [_rule(at, _TOP, at, bottom), _text(at, bottom + 18, _number(tick), anchor="middle")]
    for tick in y.ticks:
        at = bottom - y.share(tick) * (bottom - _TOP)
        parts += [_rule(_LEFT, at, right, at), _text(_LEFT - 8, at + 4, _number(tick), anchor="end")]
    parts += [
        _text((_LEFT + right) / 2, _HEIGHT - 12, x.title, anchor="middle"),
        f'<g transform="translate(16 {(_TOP + bottom) / 2}) rotate(-90)">{_text(0, 0, y.title, anchor="middle")}</g>',
    ]
    for number, line in enumerate(lines):
        colour, dashes = _COLOURS[number % len(_COLOURS)], ' stroke-dasharray="6 4"' if line.dashed else ""
        points = [
            f"{_LEFT + x.share(px) * (right - _LEFT):.1f},{bottom - y.share(py) * (bottom - _TOP):.1f}"
            for px, py in line.points
            if py > 0
        ]
        path = f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
        key = _TOP + 16 + number * 20
        mark = f'<line x1="{right + 14}" y1="{key - 4}" x2="{right + 38}" y2="{key - 4}" stroke="{colour}" '
        parts += [path, f'{mark}stroke-width="2"{dashes}/>', _text(right + 44, key, line.name)]
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a dot chart: (median, least, most) in each column, None where there is nothing to show."""

    name: str
    dots: Sequence[tuple[float, float, float] | None]
    colour: int = 0


def axis_over(title: str, values: Sequence[float]) -> Axis:
    """From the power of ten below the least to the one above the most, which need not be different."""
    least, most = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis(title, 10.0**least, 10.0 ** max(most, least + 1))


def dot_chart(title: str, columns: Sequence[Axis], rows: Sequence[Row]) -> str:
    """The whole file: a line for each thing compared, a panel for each quantity."""
    names = 212
    panel = (_DOTS_WIDTH - names) / len(columns)
    bottom = _DOTS_TOP + len(rows) * _DOTS_LINE
    height = bottom + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_DOTS_WIDTH} {height}" {_FONT}>',
        f'<rect width="{_DOTS_WIDTH}" height="{height}" fill="#fff"/>',
        _text(16, 24, title, size=15, weight="bold"),
    ]
    for number, row in enumerate(rows):
        y = _DOTS_TOP + (number + 0.5) * _DOTS_LINE
        parts += [_text(16, y + 4, row.name), _rule(names, y, _DOTS_WIDTH - 16, y)]
    for number, column in enumerate(columns):
        left = names + number * panel + 14
        width = panel - 64  # room for the value beside the last dot
        parts.append(_text(left, _DOTS_TOP - 12, column.title, weight="bold"))
        for tick in column.ticks:
            at = left + column.share(tick) * width
            parts += [_rule(at, _DOTS_TOP, at, bottom), _text(at, bottom + 18, _number(tick), anchor="middle")]
        for line, row in enumerate(rows):
            if (dot := row.dots[number]) is not None:
                y = _DOTS_TOP + (line + 0.5) * _DOTS_LINE
                at, least, most = (left + column.share(value) * width for value in dot)
                colour = _COLOURS[row.colour % len(_COLOURS)]
                spread = f'<line x1="{least:.1f}" y1="{y}" x2="{most:.1f}" y2="{y}" stroke="{colour}"'
                parts += [
                    f'{spread} stroke-width="3" stroke-opacity="0.4"/>',
                    f'<circle cx="{at:.1f}" cy="{y}" r="4.5" fill="{colour}"/>',
                    _text(max(at, most) + 9, y + 4, _short(dot[0])),
                ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _short(value: float) -> str:
    """With three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "normal") -> str:
    font = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {font}>{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
