"""The work of a call does not grow with what waits: counted in commands, since times on a shared machine say little."""

import asyncio
import re
from collections.abc import Awaitable

from broker import Broker
from tests.contract.broker.requests import POOL, make_submission


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


async def costs(broker: Broker, name: str) -> tuple[int, int]:
    """The commands of one submit and one claim, with a queue and a fair set that are not empty."""
    submit = await commands_of(broker, broker.submit(make_submission(name, "tenant-0")))
    claim = await commands_of(broker, broker.claim(POOL, "w1", b"", 1))
    return submit, claim


async def test_the_cost_of_submit_and_claim_does_not_grow(broker: Broker) -> None:
    async def fill(tenants: int, requests: int) -> None:
        for tenant in range(tenants):
            batch = (make_submission(f"{tenants}-{n}", f"tenant-{tenant}") for n in range(requests))
            await asyncio.gather(*(broker.submit(submission) for submission in batch))

    await fill(tenants=2, requests=2)
    few = await costs(broker, "few")
    await fill(tenants=100, requests=100)
    many = await costs(broker, "many")
    assert few == many
    assert max(few) < 40
