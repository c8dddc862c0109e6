"""What failed at a worker is left to others for a while, in its place in the queue, and holds nothing up there."""

import asyncio

from broker import Broker
from broker.types import Priority, RequestRef
from tests.contract.broker.conftest import Still
from tests.contract.broker.requests import POOL, make_submission

AVOID_MS = 5_000


async def claimed(broker: Broker, worker: str, limit: int = 8, avoid_ms: int = AVOID_MS) -> list[str]:
    claims = await broker.claim(POOL, worker, b"profile", limit, avoid_ms)
    return [claim.lease.ref.request_id for claim in claims]


async def fail(broker: Broker, worker: str, limit: int, failed: bool = True) -> None:
    """The first `limit` that wait fail there, or are handed back in good order."""
    for claim in await broker.claim(POOL, worker, b"profile", limit):
        await broker.release(claim.lease, failed)


async def test_another_worker_gets_it_first_and_this_one_what_is_behind_it(still: Still) -> None:
    for name in ("a", "b", "c", "d"):
        await still.broker.submit(make_submission(name))
    await fail(still.broker, "w1", 2)
    assert await claimed(still.broker, "w1", limit=1) == ["c"]
    assert await claimed(still.broker, "w2") == ["a", "b", "d"]


async def test_other_tenants_and_batch_work_are_not_held_up_by_it(still: Still) -> None:
    await still.broker.submit(make_submission("a"))
    await fail(still.broker, "w1", 1)
    await still.broker.submit(make_submission("b", tenant="globex"))
    await still.broker.submit(make_submission("c", tenant="initech", priority=Priority.BATCH))
    assert await claimed(still.broker, "w1") == ["b", "c"]
    assert await claimed(still.broker, "w1") == []
    assert await claimed(still.broker, "w2") == ["a"]


async def test_after_that_time_it_may_have_it_again(still: Still) -> None:
    await still.broker.submit(make_submission("a"))
    await fail(still.broker, "w1", 1)
    await still.clock.go_on(AVOID_MS - 1)
    assert await claimed(still.broker, "w1") == []
    await still.clock.go_on(1)
    assert await claimed(still.broker, "w1") == ["a"]


async def test_who_avoids_nothing_has_it_at_once(broker: Broker) -> None:
    await broker.submit(make_submission("a"))
    await fail(broker, "w1", 1)
    assert await claimed(broker, "w1", avoid_ms=0) == ["a"]


async def test_what_was_handed_back_in_good_order_is_not_left(broker: Broker) -> None:
    await broker.submit(make_submission("a"))
    await fail(broker, "w1", 1, failed=False)
    assert await claimed(broker, "w1") == ["a"]


async def test_the_last_one_that_failed_counts_not_who_handed_it_back_since(broker: Broker) -> None:
    await broker.submit(make_submission("a"))
    await fail(broker, "w1", 1)
    await fail(broker, "w2", 1, failed=False)
    assert await claimed(broker, "w1") == []
    assert await claimed(broker, "w2") == ["a"]


async def test_a_lease_that_ran_out_is_a_failure_too(still: Still) -> None:
    await still.broker.submit(make_submission("a"))
    assert await claimed(still.broker, "w1") == ["a"]
    await still.clock.go_on(still.broker.options.lease_ms)
    await still.broker.reclaim(POOL)
    assert await claimed(still.broker, "w1") == []
    assert await claimed(still.broker, "w2") == ["a"]


async def test_its_deadline_holds_all_the_same(still: Still) -> None:
    await still.broker.submit(make_submission("a", timeout_ms=1_000))
    await fail(still.broker, "w1", 1)
    await still.clock.go_on(1_000)
    assert await claimed(still.broker, "w1") == []
    assert await claimed(still.broker, "w2", avoid_ms=0) == []


async def test_the_bell_rings_on_for_the_others(broker: Broker) -> None:
    await broker.submit(make_submission("a"))
    await fail(broker, "w1", 1)
    never = asyncio.Event()
    assert await broker.claim_next(POOL, "w1", b"profile", 1, 5, never, AVOID_MS) == []
    claims = await asyncio.wait_for(broker.claim_next(POOL, "w2", b"profile", 1, 5, never, AVOID_MS), 2)
    assert [claim.lease.worker for claim in claims] == ["w2"]


async def test_a_dead_letter_that_is_replayed_is_left_to_nobody(broker: Broker) -> None:
    await broker.submit(make_submission("a"))
    for _ in range(broker.options.max_attempts):
        await fail(broker, "w1", 1)
    assert await broker.replay(RequestRef("acme", "a"))
    assert await claimed(broker, "w1") == ["a"]
