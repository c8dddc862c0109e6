"""What was measured at each number of something, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.service.report import Figure


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity of one variant: the figures of all rounds by the number of what grows."""

    what: str  # with its unit
    grows: str
    variant: str
    points: dict[int, list[float]] = field(default_factory=dict[int, list[float]])

    def add(self, number: int, value: float) -> None:
        """One round's."""
        self.points.setdefault(number, []).append(value)

    @property
    def growth(self) -> float:
        """The median at the most, as a multiple of that at the least."""
        return Figure.of(self.points[max(self.points)]).median / Figure.of(self.points[min(self.points)]).median


def table(curves: Sequence[Curve]) -> str:
    """In Markdown: a line a curve, a column a number; the curves grow by the same thing."""
    numbers = sorted({number for curve in curves for number in curve.points})
    lines = [f"### by {curves[0].grows}", "", "| | " + " | ".join(f"{number:,}" for number in numbers) + " | growth |"]
    lines.append("| --- |" + " --- |" * (len(numbers) + 1))
    for curve in curves:
        cells = [Figure.of(curve.points[n]).text(1) if n in curve.points else "-" for n in numbers]
        lines.append(f"| {curve.variant}: {curve.what} | " + " | ".join(cells) + f" | {curve.growth:.2f} x |")
    return "\n".join(lines)
