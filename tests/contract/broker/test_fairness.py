"""Who is served next, in tokens."""

from collections import Counter

from broker import Broker
from broker.types import Outcome, Priority, RequestRef, Usage
from tests.contract.broker.requests import POOL, claim_one, make_submission


async def serve(broker: Broker, count: int, output_tokens: int | None = None) -> Counter[str]:
    """Claims and finishes `count` requests, one at a time; returns the tokens that each tenant got."""
    served: Counter[str] = Counter()
    for _ in range(count):
        claim = await claim_one(broker)
        usage = Usage(10, 0, 20 if output_tokens is None else output_tokens)
        await broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", usage)
        served[claim.lease.ref.tenant] += usage.prompt_tokens + usage.output_tokens
    return served


async def queue(broker: Broker, tenant: str, count: int, *, first: int = 0, **changes: object) -> None:
    for number in range(first, first + count):
        await broker.submit(make_submission(f"{tenant}-{number}", tenant, **changes))


async def test_shares_follow_weights(broker: Broker) -> None:
    await queue(broker, "one", 200, weight=1.0)
    await queue(broker, "three", 200, weight=3.0)
    served = await serve(broker, 200)
    assert abs(served["three"] / served["one"] - 3) < 0.1


async def test_shares_are_of_tokens_not_of_requests(broker: Broker) -> None:
    await queue(broker, "short", 300, output_tokens=10)
    await queue(broker, "long", 300, output_tokens=90)
    tokens: Counter[str] = Counter()
    for _ in range(200):
        claim = await claim_one(broker)
        output = 10 if claim.lease.ref.tenant == "short" else 90
        await broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", Usage(10, 0, output))
        tokens[claim.lease.ref.tenant] += 10 + output
    assert abs(tokens["long"] / tokens["short"] - 1) < 0.05


async def test_the_charge_is_corrected_to_what_was_used(broker: Broker) -> None:
    """A tenant that always announces 1,000 tokens and uses 20 loses nothing by it."""
    await queue(broker, "careful", 200, output_tokens=1000)
    await queue(broker, "exact", 200, output_tokens=20)
    served = await serve(broker, 200, output_tokens=20)
    assert abs(served["careful"] / served["exact"] - 1) < 0.05


async def test_idling_earns_no_credit(broker: Broker) -> None:
    await queue(broker, "idle", 1)
    await queue(broker, "busy", 300)
    await serve(broker, 101)
    await queue(broker, "idle", 100, first=1)
    served = await serve(broker, 40)
    assert abs(served["idle"] - served["busy"]) <= 2 * 30


async def test_priority_orders_work_within_a_tenant(broker: Broker) -> None:
    for priority in (Priority.BATCH, Priority.STANDARD, Priority.INTERACTIVE):
        await broker.submit(make_submission(priority.name, priority=priority))
    order = [(await claim_one(broker)).lease.ref.request_id for _ in range(3)]
    assert order == ["INTERACTIVE", "STANDARD", "BATCH"]


async def test_batch_yields_and_is_not_starved(broker: Broker) -> None:
    await queue(broker, "batch", 50, priority=Priority.BATCH)
    await queue(broker, "chat", 200, priority=Priority.INTERACTIVE)
    order = [claim.lease.ref.tenant for claim in await broker.claim(POOL, "w1", b"", 160)]
    assert [place for place, tenant in enumerate(order, 1) if tenant == "batch"] == list(range(16, 161, 16))


async def test_batch_is_not_starved_by_its_own_tenants_urgent_work(broker: Broker) -> None:
    await queue(broker, "acme", 200, priority=Priority.STANDARD)
    await queue(broker, "acme", 50, first=200, priority=Priority.BATCH)
    order = [int(claim.lease.ref.request_id.partition("-")[2]) for claim in await broker.claim(POOL, "w1", b"", 160)]
    assert [place for place, number in enumerate(order, 1) if number >= 200] == list(range(16, 161, 16))
    urgent = [number for number in order if number < 200]
    assert urgent == sorted(urgent)


async def test_what_a_tenant_is_served_in_one_class_moves_nothing_in_the_other(broker: Broker) -> None:
    """One has had much batch work. Of urgent work, and of later batch work, it gets its half all the same."""
    await queue(broker, "one", 100, priority=Priority.BATCH, output_tokens=2_990)
    await serve(broker, 100, output_tokens=2_990)
    for priority in (Priority.STANDARD, Priority.BATCH):
        first = 100 * priority.value
        for tenant in ("one", "two"):
            await queue(broker, tenant, 50, first=first, priority=priority)
        served = await serve(broker, 40)
        assert abs(served["one"] - served["two"]) <= 30
        for tenant in ("one", "two"):
            for number in range(first, first + 50):
                await broker.cancel(RequestRef(tenant, f"{tenant}-{number}"))


async def test_what_is_given_back_is_not_charged(broker: Broker) -> None:
    for tenant in ("one", "two"):
        await queue(broker, tenant, 2)
    for _ in range(10):
        claim = await claim_one(broker)
        assert claim.lease.ref.request_id == "one-0"
        await broker.release(claim.lease, failed=False)


async def test_weights_hold_among_batch_work_too(broker: Broker) -> None:
    await queue(broker, "one", 200, weight=1.0, priority=Priority.BATCH)
    await queue(broker, "three", 200, weight=3.0, priority=Priority.BATCH)
    await queue(broker, "urgent", 50)
    served = await serve(broker, 210)
    assert served["urgent"] == 50 * 30
    assert abs(served["three"] / served["one"] - 3) < 0.1


async def test_a_tenant_that_estimates_too_much_is_not_kept_waiting_for_it(broker: Broker) -> None:
    """While all slots are taken charges alone decide, and the first ends have taught what estimates are worth."""
    for tenant, output in (("careful", 590), ("exact", 20)):
        await queue(broker, tenant, 200, output_tokens=output)
    await serve(broker, 10, output_tokens=20)
    claims = await broker.claim(POOL, "w1", b"", 40)
    held = Counter(claim.lease.ref.tenant for claim in claims)
    assert abs(held["careful"] - held["exact"]) <= 10


async def test_a_flood_of_one_tenant_does_not_delay_another(broker: Broker) -> None:
    await queue(broker, "flood", 500)
    await serve(broker, 50)
    await queue(broker, "quiet", 1)
    served = await serve(broker, 2)
    assert served["quiet"] > 0
