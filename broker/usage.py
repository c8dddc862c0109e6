"""Usage, read back. The scripts book it with each ending (lua/lib/usage.lua)."""

import asyncio
from collections import defaultdict

from broker import keys, replies
from broker.connection import Reply
from broker.pipeline import Pipeline
from broker.types import Interval, UsageRow

LENGTH_MS = {Interval.MINUTE: 60_000, Interval.HOUR: 3_600_000, Interval.DAY: 86_400_000}
# How many intervals are asked for at once: each may hold many rows.
_AT_ONCE = 100


async def read_usage(
    pipeline: Pipeline, shard: int, tenant: str, interval: Interval, start_ms: int, end_ms: int
) -> list[UsageRow]:
    """See `broker.Broker.usage`."""
    length = LENGTH_MS[interval]
    numbers = range(start_ms // length, -(-end_ms // length))
    rows: list[UsageRow] = []
    for first in range(0, len(numbers), _AT_ONCE):
        part = numbers[first : first + _AT_ONCE]
        buckets = await asyncio.gather(
            *(pipeline.command("HGETALL", keys.usage(shard, tenant, interval, number)) for number in part)
        )
        for number, bucket in zip(part, buckets, strict=True):
            rows += _rows(number * length, bucket)
    return rows


def _rows(start_ms: int, bucket: Reply) -> list[UsageRow]:
    """The rows of one interval, whose fields are '<key> <pool> <task> <metric>'."""
    amounts: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    flat = replies.strings(bucket)
    for field, amount in zip(flat[::2], flat[1::2], strict=True):
        key, pool, task, metric = field.decode().split(" ")
        amounts[key, pool, task][metric] = int(amount)
    return [
        UsageRow(
            start_ms=start_ms,
            key=key,
            pool=pool,
            task=task,
            requests=used["requests"],
            failed=used["failed"],
            prompt_tokens=used["prompt"],
            cached_prompt_tokens=used["cached"],
            output_tokens=used["output"],
            cost=used["cost"],
            fp8_cost=used["fp8_cost"],
        )
        for (key, pool, task), used in sorted(amounts.items())
    ]
