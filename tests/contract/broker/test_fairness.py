"""Who is served next, in tokens."""

from collections import Counter

from broker import Broker
from broker.types import Outcome, Priority, Usage
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


async def test_a_flood_of_one_tenant_does_not_delay_another(broker: Broker) -> None:
    await queue(broker, "flood", 500)
    await serve(broker, 50)
    await queue(broker, "quiet", 1)
    served = await serve(broker, 2)
    assert served["quiet"] > 0
