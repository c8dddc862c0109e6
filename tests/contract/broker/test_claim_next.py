"""Waiting for work and claiming it are one step."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from broker import Broker
from broker.types import Claim
from tests.contract.broker.requests import POOL, claim_one, make_submission

SOON_S = 0.1


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
async def sharded(broker: Broker, request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    async with Broker(replace(broker.options, shards=request.param)) as other:
        yield other


async def wait_until_claimed(broker: Broker, worker: str) -> list[Claim]:
    """With several shards a ring can be for nothing."""
    while not (claims := await wait(broker, worker, asyncio.Event())):
        pass
    return claims


def wait(broker: Broker, worker: str, leave: asyncio.Event, limit: int = 1) -> Coroutine[Any, Any, list[Claim]]:
    return broker.claim_next(POOL, worker, b"profile", limit, 5, leave)


def ids(claims: list[Claim]) -> list[str]:
    return [claim.lease.ref.request_id for claim in claims]


async def test_work_that_waits_is_claimed_at_once_and_work_that_comes_when_it_comes(sharded: Broker) -> None:
    await sharded.submit(make_submission("a"))
    await sharded.submit(make_submission("b"))
    assert ids(await wait(sharded, "w1", asyncio.Event(), limit=8)) == ["a", "b"]
    waiting = asyncio.create_task(wait(sharded, "w1", asyncio.Event(), limit=8))
    await asyncio.sleep(SOON_S)
    assert not waiting.done()
    await sharded.submit(make_submission("c"))
    assert ids(await asyncio.wait_for(waiting, 2)) == ["c"]


async def test_each_piece_of_work_wakes_one_of_those_who_wait(sharded: Broker) -> None:
    waiting = [asyncio.create_task(wait_until_claimed(sharded, f"w{n}")) for n in range(3)]
    await asyncio.sleep(SOON_S)
    for name in ("a", "b"):
        await sharded.submit(make_submission(name))
    done, left = await asyncio.wait(waiting, timeout=1)
    assert sorted(ids([claim for task in done for claim in task.result()])) == ["a", "b"]
    assert len(left) == 1
    await sharded.submit(make_submission("c"))
    assert ids(await asyncio.wait_for(left.pop(), 2)) == ["c"]


async def test_a_wait_in_vain_ends(sharded: Broker) -> None:
    assert await sharded.claim_next(POOL, "w1", b"profile", 1, 0.05, asyncio.Event()) == []


async def test_who_is_to_leave_leaves_at_once(sharded: Broker) -> None:
    leave = asyncio.Event()
    waiting = asyncio.create_task(wait(sharded, "w1", leave))
    await asyncio.sleep(SOON_S)
    leave.set()
    assert await asyncio.wait_for(waiting, 1) == []
    # And before the wait began, too.
    assert await asyncio.wait_for(wait(sharded, "w1", leave), 1) == []


async def test_what_is_claimed_while_leaving_is_not_lost(sharded: Broker) -> None:
    """Whatever comes first at the server, each request is in somebody's hands afterwards, or waits."""
    for number in range(30):
        leave, name = asyncio.Event(), f"r{number}"
        waiting = asyncio.create_task(wait(sharded, "w1", leave))
        await asyncio.sleep(0.002 * (number % 3))
        submitting = asyncio.create_task(sharded.submit(make_submission(name)))
        if number % 2:
            await asyncio.sleep(0.0002 * (number % 5))
        leave.set()
        claimed = ids(await asyncio.wait_for(waiting, 2))
        await submitting
        if not claimed:
            claimed = ids([await claim_one(sharded)])
        assert claimed == [name]


async def test_a_server_that_forgot_the_scripts_is_told_them_again(sharded: Broker) -> None:
    await sharded.submit(make_submission("a"))
    for pipeline in sharded._shards:  # pyright: ignore[reportPrivateUsage]
        await pipeline.command("SCRIPT", "FLUSH")
    assert ids(await wait(sharded, "w1", asyncio.Event())) == ["a"]
