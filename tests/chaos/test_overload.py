"""Promises 9 and 17: more work than there is room for, and clients that would rather try again."""

import asyncio

import pytest

import bitlane
from tests.chaos.conftest import MakeStack
from tests.chaos.flood import Flood, Outcome, flood_apart
from tests.chaos.history import quantile
from tests.chaos.load import ask, until
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import memory_mib
from tests.process.scripted import ACME

pytestmark = pytest.mark.timeout(300)

# 4 slots and replies of 0.2 s: 20 requests a second, little enough that ten times as many do not fill the machine.
CAPACITY = 20
PATIENCE_S = 2.0
# A reply that its client no longer waits for is no good to anybody.
EARLY = {"DEADLINE_UNREACHABLE", "QUEUE_FULL"}


@pytest.mark.promise(9)
async def test_goodput_holds_under_overload(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    """Open loop, half of it batch work. Goodput: whole replies within the client's patience, a second of the load."""
    levels, seconds = ((1, 2, 5, 10), 12.0) if full else ((1, 10), 6.0)
    stack = chaos_stack(engine={"slots": 4, "token_ms": 10})
    router = stack.routers[0]
    await flood_apart(Flood(stack.target, ACME, CAPACITY / 2, 2.0, tokens=20, pin=2, timeout_s=PATIENCE_S))
    before = memory_mib(router.pid)
    outcomes: dict[int, Outcome] = {}
    for level in levels:
        flood = Flood(
            stack.target, ACME, CAPACITY * level, seconds, tokens=20, pin=2, timeout_s=PATIENCE_S, batch_share=0.5
        )
        outcomes[level] = await flood_apart(flood)
        assert outcomes[level].wrong == 0
    grown = memory_mib(router.pid) - before
    # What is done of the queue afterwards is not held against the load that was offered.
    goodput = {level: outcome.done_meanwhile / seconds for level, outcome in outcomes.items()}
    peak = max(goodput.values())
    least = min(goodput.values()) / peak
    worst = outcomes[levels[-1]]
    early = [o for o in worst.refused if o in EARLY]
    refusal = quantile(worst.refusal_s, 0.99) * 1000 if early else float("nan")
    batch = worst.done_batch / max(1, worst.done)
    board.record(
        9,
        f"goodput {' / '.join(f'{goodput[level]:.0f}' for level in levels)} a second at "
        f"{' / '.join(f'{level}x' for level in levels)}: {least:.0%} of peak; rejection p99 {refusal:.0f} ms; "
        f"batch {batch:.0%} of what was served; router +{grown:.0f} MiB; refused {dict(worst.refused)}, "
        f"accepted and not done {worst.failed.total()} of {worst.sent}",
        least >= 0.9 and refusal <= 20 and grown < 64,
    )
    # Whatever else: nothing is told to be our bug, and the service is there afterwards.
    told = {reason for outcome in outcomes.values() for reason in (*outcome.refused, *outcome.failed)}
    assert told <= {*EARLY, "DEADLINE_EXCEEDED", "QUOTA_TOKENS", "QUOTA_CONCURRENCY"}, told
    assert grown < 128
    async with stack.client() as client, stack.broker() as broker:
        record = await ask(stack.history, client, "acme", "afterwards", 10, pin="fp8")
        assert record.finishes, record.errors
        (await stack.history.check(broker)).assert_sound()


@pytest.mark.promise(17)
@pytest.mark.parametrize("failure", ["no workers", "no server"])
async def test_retries_are_no_storm(chaos_stack: MakeStack, board: Scoreboard, full: bool, failure: str) -> None:
    """Everything fails and the SDK tries again, as it does by default: its budget bounds what that adds."""
    offered = 400 if full else 100
    stack = chaos_stack()
    if failure == "no server":
        stack.server.kill()
    else:
        for worker in stack.live_workers():
            worker.kill()
    async with bitlane.AsyncClient(stack.target, api_key=ACME, timeout=60) as client:

        async def refused() -> bool:
            try:
                await bitlane_once.explain("hi", model="smollm2")
            except bitlane.Unavailable:
                return True
            return False

        async with bitlane.AsyncClient(stack.target, api_key=ACME, retry=bitlane.RetryPolicy.none()) as bitlane_once:
            if failure == "no workers":
                await until(refused, 20)  # the registry forgets them
        asks = [ask(stack.history, client, "acme", f"storm {i}", 5) for i in range(offered)]
        for start in range(0, offered, 20):
            await asyncio.gather(*asks[start : start + 20])
    records = stack.history.records
    assert all(record.errors for record in records)
    assert not any(record.accepted for record in records)
    attempts = sum(record.attempts for record in records)
    assert attempts <= 1.2 * offered
    board.record(17, f"{failure}: {offered} offered, {attempts} attempts, {attempts / offered:.2f} x", True)
