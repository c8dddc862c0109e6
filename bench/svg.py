"""Line charts on logarithmic axes, as SVG: enough for the plots in docs/, and nothing to install."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 210, 46, 52
_FONT = 'font-family="sans-serif" font-size="12" fill="#222"'
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


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "normal") -> str:
    font = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {font}>{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
