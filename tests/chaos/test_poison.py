"""Promise 6: a prompt that kills its engine is set aside, can be looked at, and runs again once the cause is mended."""

import asyncio

import pytest

from broker.types import RequestRef
from deploy.local.processes import Process
from tests.chaos.conftest import MakeStack
from tests.chaos.load import ask, until
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import FP8, ChaosStack
from tests.process.scripted import expected_tokens

pytestmark = [pytest.mark.timeout(180), pytest.mark.promise(6)]

TOKENS = 30
EXHAUSTED = "ATTEMPTS_EXHAUSTED"


async def keep_replaced(stack: ChaosStack, deaths: list[Process]) -> None:
    """Replaces workers that die, as a supervisor does."""
    seen: set[int] = set()
    while True:
        for worker in list(stack.workers[FP8]):
            if worker.returncode is not None and worker.pid not in seen:
                seen.add(worker.pid)
                deaths.append(worker)
                stack.history.note(f"{worker.name} died")
                stack.add_worker(FP8)
        await asyncio.sleep(0.05)


async def test_poison_is_set_aside_and_runs_once_it_is_mended(chaos_stack: MakeStack, board: Scoreboard) -> None:
    stack = chaos_stack(engine={"kill_on": "poison", "token_ms": 100}, workers=2)
    deaths: list[Process] = []
    supervisor = asyncio.create_task(keep_replaced(stack, deaths))
    async with stack.client() as client, stack.broker() as broker:
        poison = await ask(stack.history, client, "acme", "poison", TOKENS, pin="fp8", request_id="poison-1")
        assert poison.errors == [EXHAUSTED]
        await asyncio.sleep(1.0)  # were it tried a fourth time, one more would die
        attempts = len(deaths)
        assert attempts == 3
        (letter,) = (await broker.dead_letters()).items
        assert (letter.ref, letter.attempts) == (RequestRef("acme", "poison-1"), 3)
        (await stack.history.check(broker)).assert_sound({EXHAUSTED})
        # It is mended: workers that this prompt does not kill.
        supervisor.cancel()
        for worker in stack.live_workers(FP8):
            worker.kill()
        await stack.ready(stack.add_odd_worker(FP8, token_ms=1))
        assert await broker.replay(letter.ref)
        reply = await client.resume("poison-1").result()
        assert reply.token_ids == expected_tokens("poison", TOKENS)
        assert not (await broker.dead_letters()).items
        assert not await broker.replay(letter.ref)
    board.record(6, f"{attempts} attempts; listed; replayed whole", attempts == 3)


async def test_a_dead_letter_can_be_purged(chaos_stack: MakeStack) -> None:
    stack = chaos_stack(engine={"fail_on": "poison", "token_ms": 5})
    async with stack.client() as client, stack.broker() as broker:
        poison = await ask(stack.history, client, "acme", "poison", TOKENS, pin="fp8", request_id="poison-2")
        assert poison.errors == [EXHAUSTED]
        (letter,) = (await broker.dead_letters()).items
        assert await broker.purge(letter.ref)
        assert not (await broker.dead_letters()).items
        keys = await broker._shards[0].command("KEYS", "*poison-2*")  # pyright: ignore[reportPrivateUsage]
        assert keys == []


async def test_neighbours_of_poison_complete(chaos_stack: MakeStack, board: Scoreboard) -> None:
    """The worst case: one worker, so that whoever runs beside the poison goes down with it each time."""
    stack = chaos_stack(engine={"kill_on": "poison", "token_ms": 25})
    deaths: list[Process] = []
    supervisor = asyncio.create_task(keep_replaced(stack, deaths))
    async with stack.client() as client, stack.broker() as broker:
        neighbours = [
            asyncio.create_task(ask(stack.history, client, "acme", f"beside {i}", 200, pin="fp8")) for i in range(6)
        ]
        poison = await ask(stack.history, client, "acme", "poison", TOKENS, pin="fp8")
        assert poison.errors == [EXHAUSTED]
        await until(lambda: all(task.done() for task in neighbours), 60)
        supervisor.cancel()
        records = await asyncio.gather(*neighbours)
        verdict = await stack.history.check(broker)
    whole = sum(bool(record.finishes) for record in records)
    board.record(
        6,
        f"{whole} of {len(records)} neighbours complete, after {len(deaths)} deaths",
        whole == len(records),
    )
    verdict.assert_sound({EXHAUSTED})
    assert whole == len(records), verdict.errors
