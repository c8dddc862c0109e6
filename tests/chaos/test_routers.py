"""Promise 14: a router dies by SIGKILL, and its clients go on at another."""

import asyncio
import random

import pytest

from tests.chaos.conftest import MakeStack
from tests.chaos.history import quantile
from tests.chaos.load import all_got, ask
from tests.chaos.scoreboard import Scoreboard

pytestmark = [pytest.mark.timeout(180), pytest.mark.promise(14)]


async def test_a_routers_death_is_a_short_pause(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    rounds, streams = (8, 40) if full else (2, 16)
    stack = chaos_stack(engine={"token_ms": 20, "slots": 32}, routers=2, workers=2)
    dice = random.Random()
    pauses: list[float] = []
    async with stack.broker() as broker:
        for number in range(rounds):
            clients = [stack.client() for _ in range(4)]
            asks = [
                asyncio.create_task(ask(stack.history, clients[i % 4], "acme", f"router {number} {i}", 150, timeout=60))
                for i in range(streams)
            ]
            await all_got(stack.history, streams, dice.randrange(2, 40))
            victim = dice.choice(stack.live_routers())
            stack.history.note(f"kill {victim.name}")
            victim.kill()
            records = await asyncio.gather(*asks)
            pauses += [record.longest_pause for record in records if record.attempts > 1]
            assert all(finish.attempts == 1 for record in records for finish in record.finishes)
            for client in clients:
                await client.close()
            await stack.ready(stack.replace_router(victim))
        verdict = await stack.history.check(broker)
    verdict.assert_sound()
    assert pauses
    board.record(
        14,
        f"{rounds} deaths, {len(pauses)} streams resumed, 0 tokens lost or doubled; pause p99 "
        f"{quantile(pauses, 0.99):.2f} s",
        max(pauses) <= 2.0,
    )
