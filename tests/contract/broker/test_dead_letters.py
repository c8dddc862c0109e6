"""Dead letters by page and tenant, from one shard and from many."""

import asyncio
from dataclasses import replace

import pytest

from broker import Broker
from broker.types import DeadLetter, RequestRef
from tests.contract.broker.requests import POOL, make_submission


async def kill(broker: Broker, *refs: RequestRef) -> None:
    """Makes dead letters of new requests, one after the other."""
    for ref in refs:
        await broker.submit(make_submission(ref.request_id, ref.tenant))
        for _ in range(broker.options.max_attempts):
            (claim,) = await broker.claim(POOL, "w1", b"", 1)
            await broker.release(claim.lease, failed=True, detail="it broke")


async def pages(broker: Broker, limit: int, tenant: str | None = None) -> list[tuple[DeadLetter, ...]]:
    found: list[tuple[DeadLetter, ...]] = []
    cursor = ""
    while not found or cursor:
        page = await broker.dead_letters(limit, tenant, cursor)
        found.append(page.items)
        cursor = page.cursor
    return found


def ids(found: list[tuple[DeadLetter, ...]]) -> list[str]:
    return [letter.ref.request_id for page in found for letter in page]


@pytest.mark.parametrize("shards", [1, 3])
async def test_pages_hold_every_letter_once_newest_first(broker: Broker, shards: int) -> None:
    async with Broker(replace(broker.options, shards=shards, max_attempts=1)) as sharded:
        refs = [RequestRef(f"tenant-{n % 5}", f"r{n}") for n in range(17)]
        await kill(sharded, *refs)
        found = await pages(sharded, 4)
        assert max(len(page) for page in found) == 4
        letters = [letter for page in found for letter in page]
        assert [letter.died_ms for letter in letters] == sorted((letter.died_ms for letter in letters), reverse=True)
        assert sorted(ids(found)) == sorted(ref.request_id for ref in refs)
        assert len({letter.letter_id for letter in letters}) == 17
        if shards == 1:
            assert ids(found) == [ref.request_id for ref in reversed(refs)]
        assert (await sharded.dead_letters(100)).items == tuple(letters)


async def test_letters_that_died_in_the_same_millisecond_are_not_lost_between_pages(broker: Broker) -> None:
    async with Broker(replace(broker.options, shards=3, max_attempts=1)) as sharded:
        for n in range(30):
            await sharded.submit(make_submission(f"r{n}", f"tenant-{n}"))
        claims = await sharded.claim(POOL, "w1", b"", 100)
        await asyncio.gather(*(sharded.release(claim.lease, failed=True) for claim in claims))
        assert sorted(ids(await pages(sharded, 1))) == sorted(f"r{n}" for n in range(30))


async def test_a_tenant_sees_its_own_alone(broker: Broker) -> None:
    async with Broker(replace(broker.options, max_attempts=1)) as hasty:
        await kill(hasty, RequestRef("acme", "first"))
        await kill(hasty, *(RequestRef("blue", f"r{n}") for n in range(120)))
        await kill(hasty, RequestRef("acme", "second"))
        assert ids(await pages(hasty, 1, "acme")) == ["second", "first"]
        assert len(ids(await pages(hasty, 50, "blue"))) == 120
        assert ids(await pages(hasty, 50, "coda")) == []


async def test_replayed_and_purged_letters_leave_the_list(broker: Broker) -> None:
    async with Broker(replace(broker.options, max_attempts=1)) as hasty:
        await kill(hasty, *(RequestRef("acme", f"r{n}") for n in range(4)))
        first = await hasty.dead_letters(1)
        assert await hasty.replay(RequestRef("acme", "r2"))
        assert await hasty.purge(RequestRef("acme", "r3"))  # the one that the cursor names
        assert ids([(await hasty.dead_letters(10, None, first.cursor)).items]) == ["r1", "r0"]


async def test_a_cursor_that_is_none_is_refused(broker: Broker) -> None:
    for bad in ("x", "1-1", "1-1-", "(1-1-0", "1-1-0 COUNT"):
        with pytest.raises(ValueError, match="before_id"):
            await broker.dead_letters(before_id=bad)
