"""Usage: each ending once, at its time, told apart by key, pool and task."""

from dataclasses import replace
from typing import Any

import pytest

from broker import Broker
from broker.replies import strings
from broker.types import Interval, Outcome, Price, RequestRef, Usage, UsageRow
from tests.contract.broker.clock import ms
from tests.contract.broker.conftest import Still
from tests.contract.broker.requests import POOL, claim_one, make_submission

PRICE, FP8_PRICE = Price(2, 1, 8), Price(4, 2, 16)
USED = Usage(10, 4, 20)
ALWAYS = (0, ms("2030-01-01"))
NOON = ms("2026-08-10 12:00")
HOUR = 3_600_000
ROW = UsageRow(NOON, "ci", POOL, "chat", 1, 0, 10, 4, 20, 12 + 4 + 160, 24 + 8 + 320)


async def run(broker: Broker, request_id: str, usage: Usage = USED, **changes: Any) -> None:
    """One request to its end."""
    changes = {"price": PRICE, "fp8_price": FP8_PRICE, **changes}
    await broker.submit(make_submission(request_id, **changes))
    claim = await claim_one(broker, pool=str(changes.get("pool", POOL)))
    await broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", usage)


async def rows(broker: Broker, interval: Interval = Interval.HOUR, tenant: str = "acme") -> list[UsageRow]:
    return await broker.usage(tenant, interval, NOON - 10 * HOUR, NOON + 40 * HOUR)


async def test_an_ending_is_in_the_minute_the_hour_and_the_day_in_which_it_came(still: Still) -> None:
    await still.clock.set("2026-08-10 23:59:30")
    await still.broker.submit(make_submission("r1", price=PRICE, fp8_price=FP8_PRICE))
    claim = await claim_one(still.broker)
    await still.clock.set("2026-08-11 00:01:30")
    await still.broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", USED)
    for interval, start in (
        (Interval.MINUTE, "2026-08-11 00:01"),
        (Interval.HOUR, "2026-08-11 00:00"),
        (Interval.DAY, "2026-08-11"),
    ):
        assert await rows(still.broker, interval) == [replace(ROW, start_ms=ms(start))]


async def test_rows_are_told_apart_and_summed(still: Still) -> None:
    variations: tuple[dict[str, Any], ...] = (
        *({}, {}, {"price": Price()}),
        *({"key": ""}, {"pool": "smollm2/fp8"}, {"task": "code"}, {"tenant": "blue"}),
    )
    for n, changes in enumerate(variations):
        await run(still.broker, f"r{n}", **changes)
    await still.clock.go_on(HOUR)
    await run(still.broker, "later")
    doubled = replace(
        ROW, requests=3, prompt_tokens=30, cached_prompt_tokens=12, output_tokens=60, cost=2 * 176, fp8_cost=3 * 352
    )
    assert await rows(still.broker) == [
        replace(ROW, key=""),
        doubled,
        replace(ROW, task="code"),
        replace(ROW, pool="smollm2/fp8"),
        replace(ROW, start_ms=NOON + HOUR),
    ]
    assert await rows(still.broker, tenant="blue") == [ROW]
    assert await rows(still.broker, tenant="nobody") == []


async def test_start_is_inclusive_and_end_exclusive_each_rounded_to_an_interval(still: Still) -> None:
    for hour in range(3):
        await run(still.broker, f"r{hour}")
        await still.clock.go_on(HOUR)

    async def starts(start: int, end: int) -> list[int]:
        found = await still.broker.usage("acme", Interval.HOUR, NOON + start, NOON + end)
        return [(row.start_ms - NOON) // HOUR for row in found]

    assert await starts(0, 3 * HOUR) == [0, 1, 2]
    assert await starts(HOUR - 1, 2 * HOUR) == [0, 1]
    assert await starts(HOUR, 2 * HOUR + 1) == [1, 2]
    assert await starts(HOUR, HOUR) == []
    assert await starts(HOUR, 0) == []


async def test_many_intervals_are_read_in_parts(still: Still) -> None:
    for n in range(5):
        await run(still.broker, f"r{n}")
        await still.clock.go_on(99 * 60_000)
    found = await still.broker.usage("acme", Interval.MINUTE, NOON - 700 * 60_000, NOON + 800 * 60_000)
    assert [(row.start_ms - NOON) // 60_000 for row in found] == [0, 99, 198, 297, 396]


async def test_every_way_to_end_is_one_request(still: Still) -> None:
    """A failure costs nothing, with its tokens counted; what was never claimed has used nothing."""
    await still.broker.submit(make_submission("never-claimed", price=PRICE, fp8_price=FP8_PRICE))
    await still.broker.cancel(RequestRef("acme", "never-claimed"))
    assert await rows(still.broker) == [UsageRow(NOON, "ci", POOL, "chat", 1, 0, 0, 0, 0, 0, 0)]
    await still.broker.submit(make_submission("poison", price=PRICE, fp8_price=FP8_PRICE))
    for _ in range(3):
        claim = await claim_one(still.broker)
        await still.broker.release(claim.lease, failed=True)
    assert await rows(still.broker) == [UsageRow(NOON, "ci", POOL, "chat", 2, 1, 10, 0, 0, 0, 0)]
    await still.broker.replay(RequestRef("acme", "poison"))
    claim = await claim_one(still.broker)
    for _ in range(3):  # as after a lost reply
        await still.broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", USED)
        await still.broker.cancel(claim.lease.ref)
    assert await rows(still.broker) == [UsageRow(NOON, "ci", POOL, "chat", 3, 1, 20, 4, 20, 176, 352)]


async def test_usage_is_kept_for_as_long_as_the_options_say(still: Still) -> None:
    await run(still.broker, "r1")
    await run(still.broker, "r2")
    pipeline, options = still.broker._shards[0], still.broker.options  # pyright: ignore[reportPrivateUsage]
    for interval, length, kept in (
        ("minute", 60_000, options.usage_minute_ms),
        ("hour", HOUR, options.usage_hour_ms),
        ("day", 24 * HOUR, options.usage_day_ms),
    ):
        left = await pipeline.command("PTTL", f"bl:{{0}}:usage:acme:{interval}:{NOON // length}")
        assert isinstance(left, int)
        assert kept - 60_000 < left <= kept


async def test_zeros_take_no_room(still: Still) -> None:
    await run(still.broker, "r1", Usage(10, 0, 0), price=Price(), fp8_price=Price())
    flat = await still.broker._shards[0].command("HGETALL", f"bl:{{0}}:usage:acme:hour:{NOON // HOUR}")  # pyright: ignore[reportPrivateUsage]
    row = f"ci {POOL} chat ".encode()
    assert sorted(strings(flat)) == sorted([row + b"requests", b"1", row + b"prompt", b"10"])


async def test_a_worker_that_counts_nonsense_makes_no_negative_cost(still: Still) -> None:
    await run(still.broker, "r1", Usage(prompt_tokens=2, cached_prompt_tokens=5, output_tokens=1))
    (row,) = await rows(still.broker)
    assert row.cost == 2 * PRICE.cached_prompt + PRICE.output


@pytest.mark.parametrize("tenant", ["", "a:b", "a b"])
async def test_a_hostile_tenant_is_no_key(still: Still, tenant: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a key"):
        await still.broker.usage(tenant, Interval.DAY, *ALWAYS)
