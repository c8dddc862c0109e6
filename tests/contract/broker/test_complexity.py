"""The work of a call does not grow with what waits: counted in commands, since times on a shared machine say little."""

import asyncio
import re
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from broker import Broker, keys
from broker.types import Account, Limits, Outcome, Price, Priority, RequestRef
from tests.contract.broker.requests import POOL, USAGE, make_submission

LIMITS = Limits(10**6, 10**9, 10**6, 10**6, 10**15, 10**15)
ACCOUNTS = tuple(Account(key, model, LIMITS) for key in ("", "ci") for model in ("", "smollm2"))
PRICE = Price(100, 50, 400)
BATCH = RequestRef("tenant-0", "batch")


async def commands_of(broker: Broker, call: Awaitable[object]) -> int:
    """How many commands the server ran for a call, those inside its script included."""
    await broker._registry_pipeline.command("CONFIG", "RESETSTAT")  # pyright: ignore[reportPrivateUsage]
    await call
    info = await broker._registry_pipeline.command("INFO", "commandstats")  # pyright: ignore[reportPrivateUsage]
    assert isinstance(info, bytes)
    counts = re.findall(rb"cmdstat_(\S+?):calls=(\d+)", info)
    # All other commands have a cost that does not depend on the size of a key, or grows with its logarithm.
    assert not {name for name, _ in counts} & {b"keys", b"scan", b"hgetall", b"zunionstore", b"sort", b"lrem"}
    return sum(int(count) for name, count in counts if not name.startswith((b"config", b"info")))


async def costs(broker: Broker, name: str) -> list[int]:
    """The commands of each call in the life of a request, with queues and fair sets that are not empty."""
    submission = make_submission(name, "tenant-0", accounts=ACCOUNTS, price=PRICE, fp8_price=PRICE, timeout_ms=10**8)
    submit = await commands_of(broker, broker.submit(submission))
    claim = await commands_of(broker, broker.claim(POOL, "w1", b"", 1))
    batch = await commands_of(broker, broker.submit(replace(submission, ref=BATCH, priority=Priority.BATCH)))
    cancel = await commands_of(broker, broker.cancel(BATCH))
    (running,) = await broker.claim(POOL, "w1", b"", 1)
    append = await commands_of(broker, broker.append(running.lease, 0, b"x", 1))
    finish = await commands_of(broker, broker.finish(running.lease, 1, None, 0, Outcome.STOP, "", USAGE))
    return [submit, claim, batch, cancel, append, finish]


async def test_the_cost_of_a_call_does_not_grow_with_tenants_or_waiting_requests(broker: Broker) -> None:
    async def fill(tenants: int, requests: int) -> None:
        for tenant in range(tenants):
            batch = (
                make_submission(f"{tenants}-{n}", f"tenant-{tenant}", accounts=ACCOUNTS, priority=Priority(n % 3 + 1))
                for n in range(requests)
            )
            await asyncio.gather(*(broker.submit(submission) for submission in batch))

    await fill(tenants=2, requests=6)
    few = await costs(broker, "few")
    await broker._shards[0].command("DEL", keys.request(0, BATCH))  # pyright: ignore[reportPrivateUsage]
    await fill(tenants=100, requests=100)
    many = await costs(broker, "many")
    # A clock that moves with one claim and not with another is a command more.
    assert max(later - early for early, later in zip(few, many, strict=True)) <= 2, (few, many)
    assert max(few) < 60


async def test_a_chunk_costs_no_more_for_its_accounts(broker: Broker) -> None:
    appends: list[int] = []
    variations: dict[str, dict[str, Any]] = {"plain": {}, "counted": {"accounts": ACCOUNTS, "price": PRICE}}
    for name, changes in variations.items():
        await broker.submit(make_submission(name, **changes))
        (claim,) = await broker.claim(POOL, "w1", b"", 1)
        appends.append(await commands_of(broker, broker.append(claim.lease, 0, b"x", 1)))
    assert appends[0] == appends[1] < 10
