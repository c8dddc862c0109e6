"""The budgets that bitlane set itself, and what was measured against each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.results import save
from bench.service.cases import Case
from bench.service.report import (
    CPU_REQUEST,
    CPU_TOKEN,
    Rounds,
    added_ms,
    as_json,
    figure,
    ratio,
    tables,
)
from bench.service.variants import BITLANE, FLOOR


@dataclass(frozen=True, slots=True)
class Budget:
    """`met` is None where this run measured nothing about it."""

    what: str
    limit: str
    measured: str
    met: bool | None


def budgets(cases: Mapping[str, Rounds]) -> list[Budget]:
    """As far as the cases go."""
    found: list[Budget] = []
    if rounds := cases.get("first token"):
        own, floor = added_ms(rounds, 0.5, BITLANE), added_ms(rounds, 0.5, FLOOR)
        found.append(
            Budget(
                "added time to the first token, p50, one client",
                "<= 2.0 ms and <= 1.5 x the floor's",
                f"{own.text()} ms; the floor's {floor.text()} ms: {own.median / floor.median:.2f} x",
                own.median <= 2.0 and own.median <= 1.5 * floor.median,
            )
        )
        own, floor = added_ms(rounds, 0.99, BITLANE), added_ms(rounds, 0.99, FLOOR)
        found.append(
            Budget(
                "added time to the first token, p99, one client",
                "<= 2 x the floor's",
                f"{own.text()} ms; the floor's {floor.text()} ms: {own.median / floor.median:.2f} x",
                own.median <= 2 * floor.median,
            )
        )
    if (rounds := cases.get("flood")) and (cost := figure(rounds[BITLANE], CPU_REQUEST)):
        found.append(
            Budget("router CPU a request of 64 tokens, merged", "<= 2.0 ms", f"{cost.text()} ms", cost.median <= 2)
        )
    if (rounds := cases.get("unary")) and (cost := figure(rounds[BITLANE], CPU_REQUEST)):
        found.append(
            Budget("router CPU a request without the stream", "<= 1.0 ms", f"{cost.text()} ms", cost.median <= 1)
        )
    if (rounds := cases.get("flood")) and (cost := figure(rounds[BITLANE], CPU_TOKEN)):
        rate, times = 1e6 / cost.median, 1 / ratio(rounds, CPU_TOKEN).median
        found.append(
            Budget(
                "tokens/s per router core, flood, merged",
                ">= 40,000 and >= 4 x the floor's",
                f"{rate:,.0f}, {times:.1f} x the floor's",
                rate >= 40_000 and times >= 4,
            )
        )
    if (rounds := cases.get("64 streams")) and (cost := figure(rounds[BITLANE], CPU_TOKEN)):
        share = ratio(rounds, CPU_TOKEN)
        found.append(
            Budget(
                "router CPU a token, 5 ms between tokens, 64 streams",
                "<= 50 us and <= 0.5 x the floor's",
                f"{cost.text(1)} us, {share.text()} x the floor's",
                cost.median <= 50 and share.median <= 0.5,
            )
        )
    return found


def table(found: list[Budget]) -> str:
    """In Markdown."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [f"| {b.what} | {b.limit} | {b.measured} | {words[b.met]} |" for b in found]
    return "\n".join(["| budget | limit | measured: median (least-most) | met |", "| --- | --- | --- | --- |", *rows])


def conclude(
    path: Path | None,
    rounds: int,
    cases: Sequence[Case],
    results: Mapping[str, Rounds],
    found: list[Budget],
    **more: object,
) -> None:
    """Prints a table for each case and that of the budgets; writes all figures to a file, if there is a path."""
    markdown = f"{tables(cases, results)}\n\n{table(found)}"
    print(markdown)
    judged = [asdict(budget) for budget in found]
    figures = {"rounds": rounds, **more, "cases": as_json(cases, results), "budgets": judged, "markdown": markdown}
    save(path, figures)
