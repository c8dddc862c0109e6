"""Promise 11: nothing is computed for a request whose deadline has passed."""

import asyncio
import time

import pytest

from broker.types import Outcome, RequestRef
from tests.chaos.conftest import MakeStack
from tests.chaos.history import Record
from tests.chaos.load import all_got, ask, until
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import ChaosStack
from tests.chaos.story import Story

pytestmark = [pytest.mark.timeout(120), pytest.mark.promise(11)]

# The client's own clock may be first, the router or the broker: all say the same.
PASSED = {"DEADLINE_EXCEEDED", "DeadlineExceeded"}


async def test_what_expires_in_the_queue_never_starts(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    """300 ms behind a full queue."""
    count = 200 if full else 40
    stack = chaos_stack(engine={"slots": 1, "token_ms": 10})
    async with stack.client() as client, stack.broker() as broker:
        ahead = [
            asyncio.create_task(ask(stack.history, client, "acme", f"ahead {i}", 150, pin="fp8")) for i in range(2)
        ]
        await until(lambda: any(record.pieces for record in stack.history.records), 10)
        late = [ask(stack.history, client, "acme", f"late {i}", 20, pin="fp8", timeout=0.3) for i in range(count)]
        records = await asyncio.gather(*late)
        assert all(record.errors for record in records)
        await asyncio.gather(*ahead)
        # The slot has been free for a while.
        await ask(stack.history, client, "acme", "afterwards", 10, pin="fp8")
        started = [r for r in records if _starts(stack.story, r)]
        verdict = await stack.history.check(broker)
    verdict.assert_sound(PASSED)
    assert not started, stack.story.tell(started[0])
    board.record(11, f"{count} expired in the queue: {len(started)} started", not started)


@pytest.mark.parametrize("engine", [{"token_ms": 10}, {"first_token_ms": 5000}], ids=["decode", "prefill"])
async def test_what_expires_while_it_runs_stops(
    chaos_stack: MakeStack, board: Scoreboard, engine: dict[str, object]
) -> None:
    """Its slot is given away at the deadline, and the log does not grow any more."""
    stack = chaos_stack(engine={"slots": 4, **engine}, lease_ms=20_000)
    async with stack.client() as client, stack.broker() as broker:
        running = [
            asyncio.create_task(ask(stack.history, client, "acme", f"runs {i}", 1000, pin="fp8", timeout=0.6))
            for i in range(4)
        ]
        if "token_ms" in engine:
            await all_got(stack.history, 4, 5)
        records = await asyncio.gather(*running)
        # They take the slots that are free now.
        waiting = [
            asyncio.create_task(ask(stack.history, client, "acme", f"next {i}", 1, pin="fp8", timeout=30))
            for i in range(4)
        ]
        freed = await until(lambda: all(_starts(stack.story, r) for r in stack.history.records[-4:]), 10)
        await asyncio.gather(*waiting)
        late = sum([await _late_appends(stack, r) for r in records])
        for record in records:
            ending = (await broker.read_log(RequestRef("acme", record.request_id), 0)).ending
            assert ending is not None
            assert ending.outcome in {Outcome.DEADLINE, Outcome.CANCELLED}
        (await stack.history.check(broker)).assert_sound(PASSED)
    assert late == 0
    assert freed < 5.0  # far below the lease, and below the prefill
    phase = "decode" if "token_ms" in engine else "prefill"
    board.record(11, f"{phase}: {late} chunks after the deadline, slots free within {freed:.2f} s", late == 0)


async def test_what_expires_while_its_client_stays_stops(chaos_stack: MakeStack, board: Scoreboard) -> None:
    """The router's own bound on a request, in a long prefill: nobody cancels, so the worker must see to it itself."""
    stack = chaos_stack(
        engine={"first_token_ms": 20_000}, lease_ms=20_000, router_env={"BITLANE_ROUTER_MAX_REQUEST_S": "0.6"}
    )
    async with stack.client() as client, stack.broker() as broker:
        began = time.monotonic()
        record = await ask(stack.history, client, "acme", "patient", 10, pin="fp8", timeout=60)
        told = time.monotonic() - began
        assert record.errors == ["DEADLINE_EXCEEDED"]
        ending = (await broker.read_log(RequestRef("acme", record.request_id), 0)).ending
        assert ending is not None
        assert ending.outcome is Outcome.DEADLINE
        (await stack.history.check(broker)).assert_sound(PASSED)
    assert told < 5.0  # a third of the lease is when it would renew, and find out
    board.record(11, f"the client stays: told after {told:.2f} s of 0.6 s", True)


def _starts(story: Story, record: Record) -> int:
    """How often a worker began to work on it."""
    return sum(fields.get("state") == "running" for _, fields in story.changes(f"{record.tenant}/{record.request_id}"))


async def _late_appends(stack: ChaosStack, record: Record) -> int:
    """Chunks that were logged after the deadline, by the server's clock."""
    deadline, late = float("inf"), 0
    for at, fields in stack.story.changes(f"{record.tenant}/{record.request_id}"):
        if "deadline_ms" in fields:
            deadline = int(fields["deadline_ms"]) / 1000
        late += "logged_tokens" in fields and at > deadline + 0.001
    return late
