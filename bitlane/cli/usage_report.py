"""Usage in words: a table of rows, their total, and what was saved against FP8 alone."""

from collections.abc import Sequence
from decimal import Decimal

from bitlane.admin_enums import UsageDimensionName, UsageIntervalName
from bitlane.admin_types import UsageRow
from bitlane.cli.report import words
from bitlane.cli.terminal import Terminal
from bitlane.usage import usage_total

_NUMBERS = ("requests", "failed", "prompt", "cached", "output", "cost", "fp8 only", "saved", "%")


def show_usage(
    rows: Sequence[UsageRow], by: Sequence[UsageDimensionName], interval: UsageIntervalName, terminal: Terminal
) -> None:
    if not rows:
        terminal.note("nothing ended in that time")
        return
    total = usage_total(rows)
    decimals = decimals_for(max(total.cost, total.fp8_cost))
    table = [(*(_label(row, name, interval) for name in by), *_numbers(row, decimals)) for row in rows]
    if by:
        table.append(("total", *("" for _ in by[1:]), *_numbers(total, decimals)))
    terminal.table((*by, *_NUMBERS), table, numbers=_NUMBERS)
    terminal.line()
    verb = "saved" if total.savings >= 0 else "lost"
    terminal.line(
        f"{verb} {abs(total.savings):,.{decimals}f} {total.currency} of the {total.fp8_cost:,.{decimals}f} "
        f"{total.currency} that FP8 alone would have cost: {abs(total.savings_share):.1%}"
    )


def decimals_for(most: Decimal) -> int:
    """As few as tell amounts up to this one apart: tokens cost fractions of a cent."""
    return 2 if most >= 100 else 4 if most >= 1 else 6 if most >= Decimal("0.001") else 9


def _label(row: UsageRow, dimension: UsageDimensionName, interval: UsageIntervalName) -> str:
    if dimension == "time":
        shape = "%Y-%m-%d" if interval == "day" else "%Y-%m-%d %H:%M"
        return row.start_time.strftime(shape) if row.start_time else "-"
    label = getattr(row, dimension) or "-"
    return words(label) if dimension == "task" else label


def _numbers(row: UsageRow, decimals: int) -> tuple[str, ...]:
    def money(amount: Decimal) -> str:
        return f"{amount:,.{decimals}f}"

    return (
        f"{row.requests:,}",
        f"{row.failed_requests:,}",
        f"{row.prompt_tokens:,}",
        f"{row.cached_prompt_tokens:,}",
        f"{row.output_tokens:,}",
        money(row.cost),
        money(row.fp8_cost),
        money(row.savings),
        f"{row.savings_share:.1%}",
    )
