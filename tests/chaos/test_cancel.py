"""Promise 7: whoever cancels, or just vanishes, gives its slot back: at once, from wherever it was, every time."""

import asyncio
import functools
import random
import sys
import time

import pytest

from broker.types import Outcome, RequestRef
from tests.chaos.client_to_kill import __name__ as client_to_kill
from tests.chaos.conftest import MakeStack
from tests.chaos.history import Record, quantile
from tests.chaos.load import Habit, all_got, ask, closed_loop, until
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import FP8, ChaosStack
from tests.process.scripted import ACME

pytestmark = [pytest.mark.timeout(300), pytest.mark.promise(7)]

SLOTS = 8


@pytest.mark.parametrize("engine", [{"token_ms": 10}, {"first_token_ms": 20_000}], ids=["decode", "prefill"])
async def test_the_slot_is_free_at_once(
    chaos_stack: MakeStack, board: Scoreboard, full: bool, engine: dict[str, object]
) -> None:
    """One slot and a queue: the time from one request's cancel to the claim of the next, which gets its slot."""
    count = 100 if full else 25
    decode = "token_ms" in engine
    stack = chaos_stack(engine={"slots": 1, **engine}, lease_ms=30_000)
    asked: list[float] = []
    async with stack.client() as client, stack.broker() as broker:
        tasks: list[asyncio.Task[Record]] = []
        for i in range(count):
            tasks.append(asyncio.create_task(ask(stack.history, client, "acme", f"next {i}", 1000, pin="fp8")))
            await until(lambda: stack.history.records[-1].accepted is not None, 10)
        records = list(stack.history.records)
        for record in records:
            waited = await until(functools.partial(_runs, stack, record, decode), 20)
            # Far below the lease, whose third is when a worker would find out by itself.
            assert record is records[0] or waited < 5.0
            await asyncio.sleep(0.02)
            asked.append(time.time())
            await client.cancel(record.request_id)
        await asyncio.gather(*tasks)
        (await stack.history.check(broker)).assert_sound()
        claimed = [_claims(stack, record) for record in records]
        assert all(len(times) == 1 for times in claimed)
        freed = [following[0] - at for at, following in zip(asked, claimed[1:], strict=False)]
    p99 = quantile(freed, 0.99)
    board.record(7, f"{'decode' if decode else 'prefill'}: {len(freed)} cancels, p99 {p99 * 1000:.0f} ms", p99 <= 0.05)


async def test_what_is_cancelled_in_the_queue_never_starts(
    chaos_stack: MakeStack, board: Scoreboard, full: bool
) -> None:
    count = 200 if full else 50
    stack = chaos_stack(engine={"slots": 1, "token_ms": 5})
    async with stack.client() as client, stack.broker() as broker:
        first = asyncio.create_task(ask(stack.history, client, "acme", "first", 600, pin="fp8"))
        await all_got(stack.history, 1, 1)
        queued = [
            asyncio.create_task(
                ask(stack.history, client, "acme", f"queued {i}", 10, pin="fp8", habit=Habit(cancel_at=0))
            )
            for i in range(count)
        ]
        records = await asyncio.gather(*queued)
        await first
        started = [record for record in records if _claims(stack, record)]
        assert {record.finishes[0].reason for record in records} == {"cancelled"}
        (await stack.history.check(broker)).assert_sound()
    assert not started, stack.story.tell(started[0])
    board.record(7, f"queued: {count} cancelled, {len(started)} started", not started)


@pytest.mark.parametrize("engine", [{"token_ms": 10}, {"first_token_ms": 20_000}], ids=["decode", "prefill"])
async def test_a_client_that_is_killed_frees_its_slots(
    chaos_stack: MakeStack, board: Scoreboard, engine: dict[str, object]
) -> None:
    """Half of its streams run and half wait."""
    stack = chaos_stack(engine={"slots": SLOTS, **engine}, lease_ms=30_000)
    async with stack.broker() as broker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", client_to_kill, stack.target, ACME, "gone", str(SLOTS * 2)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"open\n"

        async def running() -> int:
            return (await broker.pools([FP8]))[0].running

        async def full_up() -> bool:
            return await running() == SLOTS

        async def idle() -> bool:
            return await running() == 0

        await until(full_up, 10)
        stack.history.note("kill the client")
        process.kill()
        freed = await until(idle, 10, every_s=0.005)
        await process.wait()
        started = 0
        for i in range(SLOTS * 2):
            ref = RequestRef("acme", f"gone-{i}")
            ending = (await broker.read_log(ref, 0)).ending
            assert ending is not None
            assert ending.outcome is Outcome.CANCELLED
            started += ending.attempts
        # A slot that is freed before the queue has been may be given to one of it, for a moment.
        assert started < SLOTS * 2
        (await stack.history.check(broker)).assert_sound()
    phase = "decode" if "token_ms" in engine else "prefill"
    board.record(7, f"client killed in {phase}: all free after {freed * 1000:.0f} ms", True)


async def test_nothing_leaks(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    """Cancels and departures at random moments: afterwards every slot, lease and stream is free."""
    count = 10_000 if full else 400
    stack = chaos_stack(engine={"slots": SLOTS, "token_ms": 2, "first_token_ms": 5}, workers=2)
    dice = random.Random(7)
    sent = 0
    clients = [stack.client() for _ in range(4)]

    async def turn(user: int, number: int) -> None:
        at = dice.choice((0, 0, 1, dice.randrange(2, 20)))
        habit = Habit(cancel_at=at) if dice.random() < 0.5 else Habit(leave_at=at)
        await ask(stack.history, clients[user % 4], "acme", f"leak {user} {number}", 40, habit=habit)

    def enough() -> bool:
        nonlocal sent
        sent += 1
        return sent > count

    async with stack.broker() as broker:
        await closed_loop(48, enough, turn)
        verdict = await stack.history.check(broker)
        verdict.assert_sound()

        async def no_slot_used() -> bool:
            states = await broker.pools(list(stack.workers))
            return all(worker.running == 0 for state in states for worker in state.workers)

        await until(no_slot_used, 5)
        for client in clients:
            await client.close()
        stack.routers[0].terminate()
        streams = int(str(stack.routers[0].wait_for("router.draining", 10)["streams"]))
    assert streams == 0
    board.record(7, f"{verdict.count['requests']} cancels and departures: 0 leaks", True)


def _runs(stack: ChaosStack, record: Record, decode: bool) -> bool:
    return bool(record.pieces if decode else _claims(stack, record))


def _claims(stack: ChaosStack, record: Record) -> list[float]:
    """When workers got the request, by the server's clock."""
    changes = stack.story.changes(f"{record.tenant}/{record.request_id}")
    return [at for at, fields in changes if fields.get("state") == "running"]
