"""What cannot come to its turn in time is refused at once; when in doubt it is admitted."""

import math
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from broker import Broker
from broker.types import Outcome, PoolState, Priority, RequestRef, SubmitResult, SubmitStatus, Usage
from tests.contract.broker.conftest import Still
from tests.contract.broker.keyspace import read_keyspace
from tests.contract.broker.requests import POOL, claim_one, make_submission

NUMBERS = count()
ACCEPTED = SubmitStatus.ACCEPTED


async def queue(still: Still, number: int, tenant: str = "acme", **changes: Any) -> None:
    """Requests of 30 tokens without a deadline."""
    for n in range(number):
        name = f"{tenant}-{changes.get('priority', 'standard')}-{n}"
        result = await still.broker.submit(make_submission(name, tenant, **changes))
        assert result.status is ACCEPTED


async def serve(still: Still, number: int, each_ms: int = 1_000, used: int = 30) -> None:
    """One after the other, by a worker with one slot."""
    for _ in range(number):
        claim = await claim_one(still.broker)
        await still.clock.go_on(each_ms)
        await still.broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", Usage(used // 3, 0, used - used // 3))


async def late(still: Still, timeout_ms: int, tenant: str = "acme", **changes: Any) -> SubmitResult:
    """Asks whether one more request would be admitted; it does not stay."""
    name = f"late-{next(NUMBERS)}"
    result = await still.broker.submit(make_submission(name, tenant, timeout_ms=timeout_ms, **changes))
    if result.status is ACCEPTED:
        await still.broker.cancel(RequestRef(tenant, name))
    return result


async def wait_of(still: Still, tenant: str = "acme", **changes: Any) -> int:
    """The estimated wait; 0 when any request is admitted.

    One whose timeout is a fifth longer than its wait and its run is admitted, with a shorter one it is not.
    """
    refused = await late(still, 1, tenant, **changes)
    if refused.status is ACCEPTED:
        return 0
    assert refused.status is SubmitStatus.TOO_LATE
    assert refused.wait_ms is not None
    assert refused.run_ms is not None
    least = least_timeout(refused.wait_ms, refused.run_ms)
    assert (await late(still, least, tenant, **changes)).status is ACCEPTED
    assert (await late(still, least - 1, tenant, **changes)).wait_ms == refused.wait_ms
    return refused.wait_ms


def least_timeout(wait_ms: int, run_ms: int) -> int:
    return math.ceil((wait_ms + run_ms) * 1.2)


async def pool_of(broker: Broker) -> PoolState:
    return (await broker.pools([POOL]))[0]


async def test_the_rate_is_known_after_two_seconds_of_ends_while_work_waits(still: Still) -> None:
    await queue(still, 20)
    await serve(still, 2)
    state = await pool_of(still.broker)
    assert (state.waiting, state.waiting_tokens, state.tokens_per_s) == (18, 18 * 30, None)
    assert (await late(still, 1)).status is ACCEPTED
    await serve(still, 1)
    state = await pool_of(still.broker)
    assert (state.waiting, state.waiting_tokens, state.tokens_per_s) == (17, 17 * 30, 30.0)
    assert await wait_of(still) == 17_000


async def test_a_refusal_leaves_no_trace_and_says_when_its_turn_would_come(still: Still) -> None:
    await queue(still, 20)
    await serve(still, 3)
    before = await read_keyspace(still.broker)
    assert await late(still, 21_599) == SubmitResult(SubmitStatus.TOO_LATE, 17, wait_ms=17_000, run_ms=1_000)
    assert await read_keyspace(still.broker) == before
    assert (await late(still, 21_600)).status is ACCEPTED
    assert (await still.broker.submit(make_submission("patient"))).status is ACCEPTED


async def test_a_rate_that_is_old_refuses_nothing(still: Still) -> None:
    await queue(still, 20)
    await serve(still, 3)
    await still.clock.go_on(60_000)
    assert await wait_of(still) == 17_000
    await still.clock.go_on(1)
    assert await wait_of(still) == 0
    assert (await pool_of(still.broker)).tokens_per_s is None


async def test_a_time_without_ends_is_no_slow_rate(still: Still) -> None:
    """All workers were away for two minutes."""
    await queue(still, 20)
    await serve(still, 1)
    await still.clock.go_on(120_000)
    await serve(still, 1)
    assert await wait_of(still) == 0
    await serve(still, 2)
    assert (await pool_of(still.broker)).tokens_per_s == 30.0


async def test_a_pool_that_was_idle_is_not_slow(still: Still) -> None:
    for n in range(6):
        await queue(still, 2, f"tenant-{n}")
        await serve(still, 2, 1_500)  # nothing waits while the second one runs
    assert (await pool_of(still.broker)).tokens_per_s is None


async def test_the_rate_follows_the_pool(still: Still) -> None:
    await queue(still, 40)
    await serve(still, 3)
    await serve(still, 16, 250)
    assert (await pool_of(still.broker)).tokens_per_s == 30 / 4 + 120 * 3 / 4


async def test_who_has_nothing_waiting_is_admitted(still: Still) -> None:
    await queue(still, 20)
    await serve(still, 3)
    assert await wait_of(still) > 0
    assert await wait_of(still, "blue") == 0


async def test_more_urgent_work_does_not_wait_for_less_urgent_work(still: Still) -> None:
    await queue(still, 20)
    await serve(still, 3)
    assert await wait_of(still, priority=Priority.INTERACTIVE) == 0
    assert await wait_of(still, priority=Priority.STANDARD) == 17_000
    await queue(still, 5, priority=Priority.BATCH)
    assert await wait_of(still, priority=Priority.STANDARD) == 17_000


async def test_batch_work_waits_for_all_urgent_work_but_for_its_turns(still: Still) -> None:
    """Every 16th claim is batch work's: itself after 16 s, or all that is urgent before it."""
    await queue(still, 40, "other")
    await serve(still, 3)
    assert await wait_of(still, priority=Priority.BATCH) == 16_000
    await queue(still, 5, priority=Priority.BATCH)
    assert await wait_of(still, priority=Priority.BATCH) == 37_000 + 5_000
    await serve(still, 30)
    assert await wait_of(still, priority=Priority.BATCH) == 9_000 + 3_000


async def test_the_first_rate_is_known_after_half_a_second_of_many_ends(still: Still) -> None:
    await queue(still, 20)
    await serve(still, 8, 100)
    assert (await pool_of(still.broker)).tokens_per_s is None
    await serve(still, 1, 100)
    assert (await pool_of(still.broker)).tokens_per_s == 300.0


async def test_of_what_was_cut_off_only_what_it_used_counts_for_the_rate(still: Still) -> None:
    """A pool in which all end by their deadline, half done, is no faster for it."""
    await queue(still, 20, timeout_ms=100_000)
    await serve(still, 1)
    for _ in range(2):
        claim = await claim_one(still.broker)
        await still.broker.append(claim.lease, 0, b"half", 5, 10)
        await still.clock.go_on(1_000)
        await still.broker.cancel(claim.lease.ref)
    assert (await pool_of(still.broker)).tokens_per_s == 15.0


async def test_what_cannot_be_done_in_time_is_not_started_while_others_wait(still: Still) -> None:
    """Runs take 1 s, and a fifth more may be needed: 1.1 s are too few, 1.3 s are enough."""
    await queue(still, 1, "pace")
    await serve(still, 1)
    for name, timeout_ms in (("near", 1_100), ("enough", 1_300), ("last", 1_100)):
        await still.broker.submit(make_submission(name, timeout_ms=timeout_ms))
    assert (await claim_one(still.broker)).lease.ref.request_id == "enough"
    ending = await still.broker.cancel(RequestRef("acme", "near"))
    assert (ending.outcome, ending.claimed_ms) == (Outcome.DEADLINE, None)
    # Nobody else would use the slot: it is tried.
    assert (await claim_one(still.broker)).lease.ref.request_id == "last"


async def test_what_has_been_begun_goes_on(still: Still) -> None:
    await queue(still, 1, "pace")
    await serve(still, 1)
    await still.broker.submit(make_submission("begun", timeout_ms=1_300))
    claim = await claim_one(still.broker)
    await still.broker.append(claim.lease, 0, b"some", 5, 10)
    await still.clock.go_on(500)
    await queue(still, 3)
    await still.broker.release(claim.lease, failed=False)
    assert (await claim_one(still.broker)).lease.ref.request_id == "begun"


async def test_only_whole_runs_say_how_long_runs_take(still: Still) -> None:
    await queue(still, 1, "pace")
    await serve(still, 1)
    await queue(still, 1, "slow")
    claim = await claim_one(still.broker)
    await still.broker.append(claim.lease, 0, b"slow", 1, 10)
    await still.clock.go_on(20_000)
    await still.broker.cancel(claim.lease.ref)
    for name in ("enough", "last"):
        await still.broker.submit(make_submission(name, timeout_ms=1_200))
    assert (await claim_one(still.broker)).lease.ref.request_id == "enough"


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 20_000), (3.0, 13_333), (0.25, 50_000)])
async def test_other_tenants_count_by_their_weights(still: Still, weight: float, expected: int) -> None:
    """10 s of own work, shared with a tenant of weight 1; and no more than all that waits, 10 and 40 s."""
    await queue(still, 13, "starter")
    await serve(still, 3)
    for n in range(10):
        await still.broker.cancel(RequestRef("starter", f"starter-standard-{n + 3}"))
    await queue(still, 40, "other")
    await queue(still, 10, weight=weight)
    assert (await pool_of(still.broker)).waiting == 50
    assert await wait_of(still, weight=weight) == expected


async def test_a_tenant_that_has_had_its_share_is_not_waited_for(still: Still) -> None:
    """One large request: 100 s of the pool, while the other tenant's work is 8 s."""
    await queue(still, 13, "starter")
    await serve(still, 3)
    await still.broker.submit(make_submission("large", "ahead", output_tokens=2_990))
    await queue(still, 40, "ahead")
    await queue(still, 8, "blue")
    for n in range(10):
        await still.broker.cancel(RequestRef("starter", f"starter-standard-{n + 3}"))
    assert await wait_of(still, "blue") == 16_000
    assert (await claim_one(still.broker)).lease.ref.request_id == "large"
    assert await wait_of(still, "blue") == 8_000


async def test_the_estimate_knows_that_estimates_are_too_high(still: Still) -> None:
    """Of 30 tokens each request uses 6: an own share is counted in tokens as they are used."""
    await queue(still, 20)
    await serve(still, 3, used=6)
    assert await wait_of(still) == 17_000


async def test_the_parts_of_all_shards_are_summed(broker: Broker) -> None:
    async with Broker(replace(broker.options, shards=3)) as sharded:
        for n in range(12):
            await sharded.submit(make_submission("r1", f"tenant-{n}"))
        state = await pool_of(sharded)
        assert (state.waiting, state.waiting_tokens, state.tokens_per_s) == (12, 360, None)
