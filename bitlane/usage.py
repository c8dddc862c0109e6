"""Usage added up, and as text for other programs: every row of `client.admin.usage` with all its columns."""

import csv
import io
import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from bitlane.admin_types import UsageRow
from bitlane.money import to_text

__all__ = ["USAGE_COLUMNS", "usage_to_csv", "usage_to_json_lines", "usage_total"]

USAGE_COLUMNS = (
    "start_time",
    "tenant",
    "key",
    "model",
    "pool",
    "precision",
    "task",
    "requests",
    "failed_requests",
    "prompt_tokens",
    "cached_prompt_tokens",
    "output_tokens",
    "cost",
    "fp8_cost",
    "savings",
    "currency",
)
"""Of both formats, in this order, whatever the rows are told apart by."""


def usage_total(rows: Iterable[UsageRow]) -> UsageRow:
    """The sum of rows that do not overlap, told apart by nothing."""
    listed = list(rows)
    return UsageRow(
        requests=sum(row.requests for row in listed),
        failed_requests=sum(row.failed_requests for row in listed),
        prompt_tokens=sum(row.prompt_tokens for row in listed),
        cached_prompt_tokens=sum(row.cached_prompt_tokens for row in listed),
        output_tokens=sum(row.output_tokens for row in listed),
        cost=sum((row.cost for row in listed), Decimal()),
        fp8_cost=sum((row.fp8_cost for row in listed), Decimal()),
        currency=listed[0].currency if listed else "",
    )


def usage_to_csv(rows: Iterable[UsageRow]) -> str:
    """A head and one line a row. Money is exact; what rows are not told apart by is empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(USAGE_COLUMNS)
    table.writerows(["" if value is None else value for value in _values(row)] for row in rows)
    return text.getvalue()


def usage_to_json_lines(rows: Iterable[UsageRow]) -> str:
    """One object a line. Money is a text, because it is exact; what rows are not told apart by is null."""
    return "".join(json.dumps(dict(zip(USAGE_COLUMNS, _values(row), strict=True))) + "\n" for row in rows)


def _values(row: UsageRow) -> list[str | int | None]:
    return [_plain(getattr(row, column)) for column in USAGE_COLUMNS]


def _plain(value: datetime | Decimal | StrEnum | str | int | None) -> str | int | None:
    match value:
        case datetime():
            return value.isoformat()
        case Decimal():
            return to_text(value)
        case StrEnum():
            return value.value
        case _:
            return value
