"""The work of a call does not grow with what waits or runs: counted, since times on a shared machine say little."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from broker import Broker, BrokerOptions
from broker.types import Account, Claim, Limits, Outcome, Price, Priority
from deploy.local.server import LocalServer
from tests.contract.broker.counting import counting_scripts, work_of
from tests.contract.broker.requests import POOL, USAGE, make_submission

LIMITS = Limits(10**6, 10**9, 10**6, 10**6, 10**15, 10**15)
ACCOUNTS = tuple(Account(key, model, LIMITS) for key in ("", "ci") for model in ("", "smollm2"))
PRICE = Price(100, 50, 400)
# A clock that moves with one claim and not with another, a fair set that a tenant enters: a few commands more.
# What grows with n has hundreds or thousands more here.
SLACK = 64
# Their cost grows with a key's size, and neither their arguments nor their replies show it.
UNBOUNDED = {b"keys", b"scan", b"zunionstore", b"zinterstore", b"sort", b"lrem", b"lpos", b"linsert"}


@pytest.fixture
async def counting(shared_server: LocalServer) -> AsyncIterator[Broker]:
    """A broker on an empty server whose scripts count what they do."""
    options = BrokerOptions(url=shared_server.url, timeout_s=20)  # on a slow machine, too
    async with Broker(options, counting_scripts(options)) as broker:
        await broker._registry_pipeline.command("FLUSHALL")  # pyright: ignore[reportPrivateUsage]: production never flushes
        yield broker


async def fill(broker: Broker, tenants: int, requests: int) -> None:
    """So many waiting requests of each tenant, of all priorities."""
    for tenant in range(tenants):
        batch = (
            make_submission(f"{tenants}-{n}", f"tenant-{tenant}", accounts=ACCOUNTS, priority=Priority(n % 3 + 1))
            for n in range(requests)
        )
        await asyncio.gather(*(broker.submit(submission) for submission in batch))


async def life(broker: Broker, name: str) -> Mapping[str, int]:
    """The work of every call in the life of a request."""
    submission = make_submission(name, "tenant-0", accounts=ACCOUNTS, price=PRICE, fp8_price=PRICE, timeout_ms=10**8)
    work = {"submit": await work_of(broker, broker.submit(submission))}
    work["cancel"] = await work_of(broker, broker.cancel(submission.ref))
    batch = make_submission(f"{name}-batch", "tenant-0", accounts=ACCOUNTS, priority=Priority.BATCH)
    work["submit of batch work"] = await work_of(broker, broker.submit(batch))
    claims: list[Claim] = []

    async def claim() -> None:
        claims.extend(await broker.claim(POOL, "w1", b"", 1))

    work["claim"] = await work_of(broker, claim())
    lease = claims[0].lease
    work["append"] = await work_of(broker, broker.append(lease, 0, b"x", 1))
    work["renew"] = await work_of(broker, broker.renew(lease))
    work["attach"] = await work_of(broker, broker.attach(lease.ref, "router-2", 1))
    work["release"] = await work_of(broker, broker.release(lease, failed=False))
    work["second claim"] = await work_of(broker, claim())
    work["finish"] = await work_of(broker, broker.finish(claims[1].lease, 1, None, 0, Outcome.STOP, "", USAGE))
    work["reclaim of nothing"] = await work_of(broker, broker.reclaim(POOL))
    return work


def grown(few: Mapping[str, int], many: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """The calls that cost more with more."""
    return {name: (few[name], many[name]) for name in few if many[name] > few[name] + SLACK}


async def test_no_call_costs_more_with_a_thousand_tenants_and_ten_thousand_waiting(counting: Broker) -> None:
    await fill(counting, tenants=10, requests=10)
    few = await life(counting, "few")
    await fill(counting, tenants=1_000, requests=11)
    many = await life(counting, "many")
    assert not grown(few, many)
    assert max(few.values()) < 1_000


async def test_no_call_costs_more_with_hundreds_running(counting: Broker) -> None:
    await fill(counting, tenants=10, requests=100)
    few = await life(counting, "few")
    claims = await counting.claim(POOL, "w2", b"", 600)
    assert len(claims) == 600
    assert not grown(few, await life(counting, "many"))


async def test_a_claim_of_many_costs_as_much_as_that_many_claims(counting: Broker) -> None:
    await fill(counting, tenants=10, requests=20)
    one = await work_of(counting, counting.claim(POOL, "w1", b"", 1))
    hundred = await work_of(counting, counting.claim(POOL, "w1", b"", 100))
    assert hundred <= 100 * one


async def test_a_long_reply_costs_as_much_a_chunk_as_a_short_one(counting: Broker) -> None:
    await counting.submit(make_submission("long", accounts=ACCOUNTS, price=PRICE))
    (claim,) = await counting.claim(POOL, "w1", b"", 1)
    appends = [await work_of(counting, counting.append(claim.lease, i, b"x", 1)) for i in range(500)]
    assert max(appends) <= appends[0]
    # Who follows it from its end on reads that, and not what was before.
    assert await work_of(counting, counting.attach(claim.lease.ref, "router-2", 499)) < 100 + SLACK


async def test_accounts_cost_the_submit_and_the_end_and_no_chunk(counting: Broker) -> None:
    appends: list[int] = []
    variations: dict[str, dict[str, Any]] = {"plain": {}, "counted": {"accounts": ACCOUNTS, "price": PRICE}}
    for name, changes in variations.items():
        await counting.submit(make_submission(name, **changes))
        (claim,) = await counting.claim(POOL, "w1", b"", 1)
        appends.append(await work_of(counting, counting.append(claim.lease, 0, b"x", 1)))
    assert appends[0] == appends[1] < 100


async def commands_of(broker: Broker, call: Awaitable[object]) -> dict[bytes, int]:
    """How often the server ran each command for a call, those inside of scripts included."""
    await broker._registry_pipeline.command("CONFIG", "RESETSTAT")  # pyright: ignore[reportPrivateUsage]
    await call
    info = await broker._registry_pipeline.command("INFO", "commandstats")  # pyright: ignore[reportPrivateUsage]
    assert isinstance(info, bytes)
    counts = re.findall(rb"cmdstat_(\S+?):calls=(\d+)", info)
    return {name: int(count) for name, count in counts if not name.startswith((b"config", b"info"))}


async def test_no_call_uses_a_command_whose_cost_is_hidden(broker: Broker) -> None:
    async def all_calls() -> None:
        submission = make_submission("r1", accounts=ACCOUNTS, price=PRICE)
        await broker.submit(submission)
        await broker.submit(replace(submission, ref=replace(submission.ref, request_id="r2")))
        for ends in (True, False):
            (claim,) = await broker.claim(POOL, "w1", b"", 1)
            await broker.append(claim.lease, 0, b"x", 1)
            await broker.attach(claim.lease.ref, "router-2", 0)
            await broker.abandon(claim.lease.ref, "router-2")
            if ends:
                await broker.finish(claim.lease, 1, None, 0, Outcome.STOP, "", USAGE)
            else:
                await broker.release(claim.lease, failed=True)
        await broker.reclaim(POOL)
        await broker.cancel(replace(submission.ref, request_id="r2"))

    commands = await commands_of(broker, all_calls())
    assert sum(commands.values()) > 100
    assert not set(commands) & UNBOUNDED
