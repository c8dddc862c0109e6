"""What accounts admit: exactly their bounds, whoever asks at the same time, with the truth in place of the estimate."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from broker import Broker
from broker.types import (
    Account,
    AccountState,
    Held,
    Limit,
    Limits,
    Outcome,
    OverLimit,
    Price,
    RequestRef,
    SubmitResult,
    SubmitStatus,
    Usage,
)
from tests.contract.broker import invariants
from tests.contract.broker.clock import ms
from tests.contract.broker.conftest import Still
from tests.contract.broker.keyspace import read_keyspace
from tests.contract.broker.requests import POOL, claim_one, make_submission

PRICE = Price(prompt=3, cached_prompt=1, output=10)
COST = 10 * 3 + 20 * 10  # of the tests' submission, as estimated
K = 7
# Each bound so that K of the tests' submissions fit: 10 prompt and 20 output tokens.
BOUNDS = {
    Limit.REQUESTS_PER_MINUTE: K,
    Limit.TOKENS_PER_MINUTE: K * 30 + 29,
    Limit.CONCURRENT_REQUESTS: K,
    Limit.QUEUED_REQUESTS: K,
    Limit.DAY_BUDGET: K * COST + COST - 1,
    Limit.MONTH_BUDGET: K * COST,
}


def own(**bounds: int | None) -> tuple[Account, ...]:
    return (Account("", "", Limits(**bounds)),)


async def submit(broker: Broker, request_id: str, *accounts: Account, **changes: Any) -> SubmitResult:
    """One of the tests' submissions; `accounts` stand beside the tenant's own, unless that is among them."""
    if not accounts or accounts[0].key or accounts[0].model:
        accounts = (*own(), *accounts)
    return await broker.submit(make_submission(request_id, accounts=accounts, price=PRICE, **changes))


async def state(broker: Broker, key: str = "", model: str = "", **rates: int) -> AccountState:
    return await broker.account("acme", key, model, Limits(**rates))


@pytest.mark.parametrize("limit", Limit)
async def test_of_many_at_a_time_exactly_k_are_admitted(still: Still, limit: Limit) -> None:
    """By two brokers that know nothing of each other."""
    accounts = own(**{limit.value: BOUNDS[limit]})
    calls = [submit((still.broker, still.other)[n % 2], f"r{n}", *accounts) for n in range(50)]
    results = await asyncio.gather(*calls)
    assert Counter(result.status for result in results) == {SubmitStatus.ACCEPTED: K, SubmitStatus.OVER_LIMIT: 50 - K}
    assert {result.over.limit for result in results if result.over} == {limit}
    assert len(await still.broker.claim(POOL, "w1", b"", 100)) == K


@pytest.mark.parametrize(
    "account", [Account("ci", "", Limits()), Account("", "m", Limits()), Account("ci", "m", Limits())]
)
@pytest.mark.parametrize("limit", Limit)
async def test_every_account_has_its_own_bounds(still: Still, limit: Limit, account: Account) -> None:
    bounded = replace(account, limits=Limits(**{limit.value: BOUNDS[limit]}))
    for n in range(K):
        assert (await submit(still.broker, f"r{n}", bounded)).status is SubmitStatus.ACCEPTED
    refused = await submit(still.broker, "one-more", bounded)
    assert refused.over is not None
    assert (refused.over.account, refused.over.limit) == (bounded, limit)
    # Other accounts of the tenant, and the same names of another tenant, are not touched.
    assert (await submit(still.broker, "web", replace(bounded, key="web"))).status is SubmitStatus.ACCEPTED
    assert (await submit(still.broker, "r0", bounded, tenant="blue")).status is SubmitStatus.ACCEPTED


@pytest.mark.parametrize("limit", Limit)
async def test_what_is_refused_leaves_no_trace(still: Still, limit: Limit) -> None:
    """Also not in the accounts before the one that refuses."""
    bounded = Account("ci", "", Limits(**{limit.value: BOUNDS[limit]}))
    roomy = Account("", "", Limits(100, 10_000, 100, 100, 1_000_000, 1_000_000))
    for n in range(K):
        await submit(still.broker, f"r{n}", roomy, bounded)
    before = await read_keyspace(still.broker)
    assert (await submit(still.broker, "one-more", roomy, bounded)).status is SubmitStatus.OVER_LIMIT
    full = await submit(still.broker, "one-more", roomy, pool_max_waiting=K)
    assert full == SubmitResult(SubmitStatus.POOL_FULL, K)
    assert await read_keyspace(still.broker) == before


async def test_a_known_id_costs_nothing(still: Still) -> None:
    """Even when nothing more would be admitted."""
    accounts = own(requests_per_minute=1, tokens_per_minute=30, concurrent_requests=1, day_budget=COST)
    await submit(still.broker, "r1", *accounts)
    before = await read_keyspace(still.broker)
    for digest, status in (("digest", SubmitStatus.JOINED), ("other", SubmitStatus.CONFLICT)):
        again = await submit(still.broker, "r1", *accounts, digest=digest, pool_max_waiting=0)
        assert again.status is status
    assert await read_keyspace(still.broker) == before


@pytest.mark.parametrize(
    ("limits", "used", "wanted", "retry_ms"),
    [
        (Limits(requests_per_minute=2), 2, 1, 30_000),
        (Limits(tokens_per_minute=70), 60, 30, 17_143),  # 20 tokens at 70 a minute
        (Limits(concurrent_requests=2), 2, 1, None),
        (Limits(queued_requests=2), 2, 1, None),
        (Limits(day_budget=2 * COST + 1), 2 * COST, COST, 12 * 3_600_000),
        (Limits(month_budget=2 * COST + 1), 2 * COST, COST, ms("2026-09-01") - ms("2026-08-10 12:00")),
    ],
)
async def test_a_refusal_says_what_is_used_and_when_it_may_fit(
    still: Still, limits: Limits, used: int, wanted: int, retry_ms: int | None
) -> None:
    account = Account("", "", limits)
    for n in range(2):
        await submit(still.broker, f"r{n}", account)
    result = await submit(still.broker, "r2", account)
    (limit,) = (limit for limit in Limit if getattr(limits, limit.value) is not None)
    bound = getattr(limits, limit.value)
    assert result == SubmitResult(SubmitStatus.OVER_LIMIT, 2, OverLimit(account, limit, bound, used, wanted, retry_ms))


@pytest.mark.parametrize(
    "limits", [Limits(requests_per_minute=2), Limits(tokens_per_minute=61), Limits(tokens_per_minute=89)]
)
async def test_after_the_time_that_it_says_it_fits_and_not_before(still: Still, limits: Limits) -> None:
    account = Account("", "", limits)
    for n in range(2):
        await submit(still.broker, f"r{n}", account)
    refused = await submit(still.broker, "r2", account)
    assert refused.over is not None
    assert refused.over.retry_after_ms is not None
    await still.clock.go_on(refused.over.retry_after_ms - 1)
    again = await submit(still.broker, "r2", account)
    assert again.over is not None
    assert again.over.retry_after_ms == 1
    await still.clock.go_on(1)
    assert (await submit(still.broker, "r2", account)).status is SubmitStatus.ACCEPTED


@pytest.mark.parametrize(
    "limits",
    [
        *(Limits(requests_per_minute=0), Limits(tokens_per_minute=29), Limits(tokens_per_minute=0)),
        *(Limits(day_budget=COST - 1), Limits(month_budget=COST - 1), Limits(concurrent_requests=0)),
    ],
)
async def test_what_never_fits_has_no_time(still: Still, limits: Limits) -> None:
    refused = await submit(still.broker, "r1", Account("", "", limits))
    assert refused.over is not None
    assert refused.over.wanted > refused.over.bound
    assert refused.over.retry_after_ms is None


async def test_the_truth_takes_the_place_of_the_estimate(still: Still) -> None:
    accounts = own(tokens_per_minute=1_000)
    await submit(still.broker, "r1", *accounts)
    waiting = await state(still.broker, tokens_per_minute=1_000, requests_per_minute=5)
    assert waiting == AccountState(0, 30, 1, 0, 30, COST, 0, 0)
    claim = await claim_one(still.broker)
    assert (await state(still.broker)).running == 1
    await still.broker.finish(claim.lease, 0, b"x", 5, Outcome.STOP, "", Usage(12, 4, 5))
    cost = 8 * 3 + 4 * 1 + 5 * 10
    assert await state(still.broker, tokens_per_minute=1_000) == AccountState(0, 17, 0, 0, 0, 0, cost, cost)


async def test_more_than_the_estimate_is_counted_as_well(still: Still) -> None:
    accounts = own(tokens_per_minute=60)
    await submit(still.broker, "r1", *accounts)
    claim = await claim_one(still.broker)
    await still.broker.finish(claim.lease, 0, b"x", 200, Outcome.LENGTH, "", Usage(10, 0, 200))
    assert (await state(still.broker, tokens_per_minute=60)).tokens_used == 210
    refused = await submit(still.broker, "r2", *accounts)
    assert refused.over is not None
    assert (refused.over.used, refused.over.retry_after_ms) == (210, 180_000)


async def end_by_cancel_waiting(broker: Broker) -> Usage:
    await broker.cancel(RequestRef("acme", "r1"))
    return Usage(0, 0, 0)


async def end_by_cancel_running(broker: Broker) -> Usage:
    claim = await claim_one(broker)
    await broker.append(claim.lease, 0, b"0|x", 2, 11, 4)
    await broker.cancel(claim.lease.ref)
    return Usage(11, 4, 2)


async def end_by_disconnect(broker: Broker) -> Usage:
    claim = await claim_one(broker)
    await broker.append(claim.lease, 0, b"0|x", 2)
    await broker.abandon(claim.lease.ref, "router-1")
    return Usage(10, 0, 2)  # the engine has not said how long the prompt is


async def end_by_graceful_release_and_cancel(broker: Broker) -> Usage:
    claim = await claim_one(broker)
    await broker.append(claim.lease, 0, b"0|x", 2, 11)
    await broker.release(claim.lease, failed=False)
    await broker.cancel(claim.lease.ref)
    return Usage(11, 0, 2)


ENDS = [end_by_cancel_waiting, end_by_cancel_running, end_by_disconnect, end_by_graceful_release_and_cancel]


@pytest.mark.parametrize("end", ENDS)
async def test_what_was_not_used_comes_back_at_every_end(still: Still, end: Any) -> None:
    accounts = (*own(tokens_per_minute=100), Account("ci", "m", Limits(tokens_per_minute=100)))
    await submit(still.broker, "r1", *accounts)
    usage: Usage = await end(still.broker)
    tokens = usage.prompt_tokens + usage.output_tokens
    cached = usage.cached_prompt_tokens
    cost = (usage.prompt_tokens - cached) * 3 + cached + usage.output_tokens * 10
    for key, model in (("", ""), ("ci", "m")):
        left = await state(still.broker, key, model, tokens_per_minute=100)
        assert left == AccountState(0, tokens, 0, 0, 0, 0, cost, cost)
    invariants.check(await read_keyspace(still.broker))


async def test_a_deadline_gives_back_too(still: Still) -> None:
    for request_id in ("waits", "runs"):
        await submit(still.broker, request_id, *own(tokens_per_minute=100), timeout_ms=1_000)
    claim = await claim_one(still.broker)
    await still.broker.append(claim.lease, 0, b"0|x", 2, 11)
    await still.clock.go_on(1_000)
    assert await still.broker.renew(claim.lease) is Held.ENDED
    assert await still.broker.claim(POOL, "w1", b"", 1) == []
    left = await state(still.broker, tokens_per_minute=1)
    assert (left.waiting, left.running, left.reserved_tokens, left.reserved_cost) == (0, 0, 0, 0)
    assert left.day_spent == 11 * 3 + 2 * 10


async def test_what_the_service_did_not_finish_costs_nothing(still: Still) -> None:
    """Its tokens are counted all the same: in the bucket, and in the usage."""
    accounts = own(tokens_per_minute=100)
    await submit(still.broker, "poison", *accounts)
    for attempt in range(3):
        claim = await claim_one(still.broker)
        await still.broker.append(claim.lease, attempt, b"%d|" % attempt, 2, 11)
        await still.broker.release(claim.lease, failed=True)
    assert await state(still.broker, tokens_per_minute=100) == AccountState(0, 17, 0, 0, 0, 0, 0, 0)
    await submit(still.broker, "fixed", *accounts, migratable=False)
    claim = await claim_one(still.broker)
    await still.broker.append(claim.lease, 0, b"0|x", 2, 11)
    await still.broker.release(claim.lease, failed=False)
    assert await state(still.broker, tokens_per_minute=100) == AccountState(0, 30, 0, 0, 0, 0, 0, 0)


async def test_a_replay_reserves_again_whatever_the_bounds(still: Still) -> None:
    accounts = (*own(tokens_per_minute=40, concurrent_requests=1), Account("ci", "", Limits(day_budget=COST)))
    await submit(still.broker, "r1", *accounts)
    for _ in range(3):
        await still.broker.release((await claim_one(still.broker)).lease, failed=True)
    await still.clock.go_on(60_000)
    await submit(still.broker, "r2", *accounts)
    assert await still.broker.replay(RequestRef("acme", "r1"))
    for key in ("", "ci"):
        both = await state(still.broker, key, tokens_per_minute=40)
        assert (both.waiting, both.reserved_tokens, both.reserved_cost) == (2, 60, 2 * COST)
    assert (await state(still.broker, tokens_per_minute=40)).tokens_used == 30  # a client has sent one
    invariants.check(await read_keyspace(still.broker))
    for _ in range(2):
        claim = await claim_one(still.broker)
        await still.broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", Usage(10, 0, 10))
    left = await state(still.broker, tokens_per_minute=40)
    assert (left.tokens_used, left.reserved_cost, left.day_spent) == (20, 0, 2 * 130)


async def test_the_tenants_own_account_is_counted_without_bounds(still: Still) -> None:
    """So that a budget which comes in the middle of a month knows what was spent; a rate starts empty."""
    await submit(still.broker, "r1")
    claim = await claim_one(still.broker)
    await still.broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", Usage(10, 0, 20))
    await submit(still.broker, "r2")
    result = await submit(still.broker, "r3", *own(month_budget=3 * COST - 1))
    assert result.over is not None
    assert result.over.used == 2 * COST
    for n in range(2):
        await submit(still.broker, f"rate-{n}", *own(requests_per_minute=2, tokens_per_minute=60))
    result = await submit(still.broker, "rate-2", *own(requests_per_minute=2, tokens_per_minute=60))
    assert result.status is SubmitStatus.OVER_LIMIT


async def test_only_what_was_taken_from_a_bucket_comes_back_to_it(still: Still) -> None:
    """A rate that came after a request knows nothing of it, neither at the start nor at the end."""
    await submit(still.broker, "before", output_tokens=1_000)
    await submit(still.broker, "after", *own(tokens_per_minute=100))
    await still.broker.cancel(RequestRef("acme", "before"))
    assert (await state(still.broker, tokens_per_minute=100)).tokens_used == 30


async def test_budgets_begin_anew_with_the_day_and_the_month_of_utc(still: Still) -> None:
    await still.clock.set("2028-02-28 23:59:59")
    day, month = own(day_budget=2 * COST - 1), own(month_budget=2 * COST - 1)
    for name, accounts, ends in (("a", day, "2028-02-29"), ("b", month, "2028-03-01")):
        if name == "a":
            await submit(still.broker, "r1")
            claim = await claim_one(still.broker)
            await still.broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", Usage(10, 0, 20))
        refused = await submit(still.broker, name, *accounts)
        assert refused.over is not None
        assert refused.over.retry_after_ms == ms(ends) - still.clock.now
        await still.clock.set(ms(ends) - 1)
        assert (await submit(still.broker, name, *accounts)).status is SubmitStatus.OVER_LIMIT
        await still.clock.set(ends)
        assert (await submit(still.broker, name, *accounts)).status is SubmitStatus.ACCEPTED
        await still.broker.cancel(RequestRef("acme", name))
    assert (await state(still.broker)).month_spent == 0


async def test_money_is_spent_on_the_day_of_the_end(still: Still) -> None:
    await still.clock.set("2026-12-31 23:59:50")
    for request_id in ("r1", "r2"):
        await submit(still.broker, request_id)
    first, second = await still.broker.claim(POOL, "w1", b"", 2)
    await still.broker.finish(first.lease, 0, None, 0, Outcome.STOP, "", Usage(10, 0, 20))
    await still.clock.set("2027-01-01 00:00:01")
    assert await state(still.broker) == AccountState(0, 0, 0, 1, 30, COST, 0, 0)
    await still.broker.finish(second.lease, 0, None, 0, Outcome.STOP, "", Usage(10, 0, 20))
    assert await state(still.broker) == AccountState(0, 0, 0, 0, 0, 0, COST, COST)


async def test_a_clock_that_steps_back_forgets_nothing(still: Still) -> None:
    """As after a failover to a machine whose clock is behind."""
    await still.clock.set("2027-01-01 00:00:01")
    for request_id, time in (("r1", "2027-01-01 00:00:01"), ("r2", "2026-12-31 23:59:59")):
        await submit(still.broker, request_id)
        await still.clock.set(time)
        claim = await claim_one(still.broker)
        await still.broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", Usage(10, 0, 20))
    assert (await state(still.broker)).month_spent == 2 * COST
    await still.clock.set("2027-01-01 00:00:02")
    assert (await state(still.broker)).day_spent == 2 * COST


async def test_accounts_of_keys_and_models_leave_after_a_time_and_the_tenants_own_stays(still: Still) -> None:
    await submit(still.broker, "r1", Account("ci", "m", Limits()))
    pipeline = still.broker._shards[0]  # pyright: ignore[reportPrivateUsage]
    kept = await pipeline.command("PTTL", "bl:{0}:quota:acme:ci:m")
    assert isinstance(kept, int)
    assert 39 * 86_400_000 < kept <= 40 * 86_400_000
    assert await pipeline.command("PTTL", "bl:{0}:tenant:acme") == -1


async def test_large_numbers_are_counted_exactly(still: Still) -> None:
    """Some nanos in a budget of millions of dollars, and a rate of a hundred thousand million tokens."""
    price = Price(prompt=10**9, output=10**9)
    accounts = own(month_budget=8 * 10**15, tokens_per_minute=10**11)
    large: dict[str, Any] = {"prompt_tokens": 10**6, "output_tokens": 10**6 - 1}
    for n in range(3):
        submission = make_submission(f"r{n}", accounts=accounts, price=price, **large)
        assert (await still.broker.submit(submission)).status is SubmitStatus.ACCEPTED
    refused = await still.broker.submit(make_submission("r3", accounts=accounts, price=price, prompt_tokens=2_000_004))
    assert refused.over is not None
    assert (refused.over.used, refused.over.wanted) == (6 * 10**15 - 3 * 10**9, 2_000_024 * 10**9)
    claim = await claim_one(still.broker)
    await still.broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", Usage(10**6, 0, 1))
    left = await state(still.broker, tokens_per_minute=10**11)
    assert (left.month_spent, left.reserved_tokens) == ((10**6 + 1) * 10**9, 2 * (2 * 10**6 - 1))
    assert left.tokens_used == 3 * (2 * 10**6 - 1) - 10**6 + 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"accounts": ()}, "accounts"),
        ({"accounts": (Account("ci", "", Limits()),)}, "accounts"),
        ({"accounts": own() + own()}, "accounts"),
        ({"accounts": own(requests_per_minute=-1)}, "requests_per_minute"),
        ({"accounts": (*own(), Account("a:b", "", Limits()))}, "key 'a:b'"),
        ({"accounts": (*own(), Account("", "a b", Limits()))}, "model 'a b'"),
        ({"key": "a/b"}, "key 'a/b'"),
        ({"task": "a b"}, "task 'a b'"),
        ({"price": Price(prompt=-1)}, "price"),
        ({"fp8_price": Price(output=1 << 60)}, "fp8_price"),
        ({"prompt_tokens": 10**12}, "prompt_tokens"),
    ],
)
async def test_what_would_break_the_books_is_refused(still: Still, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        await still.broker.submit(make_submission(**changes))
    assert (await read_keyspace(still.broker)).hashes == {}
