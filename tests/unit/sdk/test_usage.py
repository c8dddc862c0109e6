"""Usage added up, and as CSV and JSON lines."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bitlane import USAGE_COLUMNS, Precision, Task, UsageRow, usage_to_csv, usage_to_json_lines, usage_total
from bitlane.money import from_nanos

ROW = UsageRow(
    start_time=datetime(2026, 11, 1, 13, tzinfo=UTC),
    tenant="acme",
    model="smollm2",
    precision=Precision.FP4,
    task=Task.CREATIVE_WRITING,
    requests=12,
    failed_requests=1,
    prompt_tokens=3400,
    cached_prompt_tokens=256,
    output_tokens=900,
    cost=Decimal("0.000000001"),
    fp8_cost=Decimal("0.000000004"),
    currency="EUR",
)
_amounts = st.integers(0, 2**63).map(from_nanos)
_counts = st.integers(0, 2**64 - 1)
rows = st.builds(
    UsageRow,
    tenant=st.none() | st.text("abc.-_0", min_size=1),
    requests=_counts,
    failed_requests=_counts,
    prompt_tokens=_counts,
    cached_prompt_tokens=_counts,
    output_tokens=_counts,
    cost=_amounts,
    fp8_cost=_amounts,
    currency=st.just("USD"),
)


def test_csv():
    assert usage_to_csv([ROW]) == (
        "start_time,tenant,key,model,pool,precision,task,requests,failed_requests,prompt_tokens,cached_prompt_tokens,"
        "output_tokens,cost,fp8_cost,savings,currency\n"
        "2026-11-01T13:00:00+00:00,acme,,smollm2,,fp4,creative_writing,12,1,3400,256,900,"
        "0.000000001,0.000000004,0.000000003,EUR\n"
    )
    assert usage_to_csv([]) == ",".join(USAGE_COLUMNS) + "\n"


def test_json_lines():
    [line] = usage_to_json_lines([ROW]).splitlines()
    assert json.loads(line) == {
        "start_time": "2026-11-01T13:00:00+00:00",
        "tenant": "acme",
        "key": None,
        "model": "smollm2",
        "pool": None,
        "precision": "fp4",
        "task": "creative_writing",
        "requests": 12,
        "failed_requests": 1,
        "prompt_tokens": 3400,
        "cached_prompt_tokens": 256,
        "output_tokens": 900,
        "cost": "0.000000001",
        "fp8_cost": "0.000000004",
        "savings": "0.000000003",
        "currency": "EUR",
    }
    assert usage_to_json_lines([]) == ""


@given(st.lists(rows, max_size=5))
def test_both_formats_hold_every_row_exactly(listed: list[UsageRow]):
    table = list(csv.DictReader(io.StringIO(usage_to_csv(listed))))
    lines = [json.loads(line) for line in usage_to_json_lines(listed).splitlines()]
    assert len(table) == len(lines) == len(listed)
    for row, cells, values in zip(listed, table, lines, strict=True):
        assert list(cells) == list(values) == list(USAGE_COLUMNS)
        for column in USAGE_COLUMNS:
            assert cells[column] == ("" if values[column] is None else str(values[column]))
        assert Decimal(values["cost"]) == row.cost
        assert Decimal(values["cost"]) + Decimal(values["savings"]) == row.fp8_cost
        assert values["output_tokens"] == row.output_tokens


@given(st.lists(rows, min_size=1, max_size=5))
def test_a_total_is_the_sum_of_everything(listed: list[UsageRow]):
    total = usage_total(listed)
    for field in ("requests", "failed_requests", "prompt_tokens", "cached_prompt_tokens", "output_tokens"):
        assert getattr(total, field) == sum(getattr(row, field) for row in listed)
    assert total.cost == sum((row.cost for row in listed), Decimal())
    assert total.savings == sum((row.savings for row in listed), Decimal())
    assert (total.tenant, total.start_time, total.currency) == (None, None, "USD")


def test_the_total_of_nothing():
    total = usage_total([])
    assert (total.requests, total.cost, total.savings_share) == (0, Decimal(), 0.0)


def test_savings_are_against_fp8_alone():
    assert ROW.savings == Decimal("0.000000003")
    assert ROW.savings_share == 0.75
    dearer = replace(ROW, cost=Decimal(5), fp8_cost=Decimal(4))
    assert (dearer.savings, dearer.savings_share) == (Decimal(-1), -0.25)
