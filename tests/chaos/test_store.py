"""Promise 5: the server of Redis crashes, hangs, or has its clock set; nothing that was acknowledged is lost."""

import asyncio
import time

import pytest

import bitlane
from tests.chaos.conftest import MakeStack
from tests.chaos.load import ONCE, ask, closed_loop, until
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import ChaosStack
from tests.process.scripted import ACME

pytestmark = [pytest.mark.timeout(300), pytest.mark.promise(5)]

AWAY = "BROKER_UNAVAILABLE"
TOKENS = 100


@pytest.mark.parametrize("fsync", ["everysec", "always"])
async def test_a_crash_loses_nothing(chaos_stack: MakeStack, board: Scoreboard, full: bool, fsync: str) -> None:
    crashes = 6 if full else 2
    stack = chaos_stack(
        engine={"token_ms": 10}, workers=2, lease_ms=3000, durable=True, settings={"appendfsync": fsync}
    )
    crashing = True
    back: list[float] = []
    refusals: list[float] = []
    async with stack.client() as client, _once(stack) as once:

        async def turn(user: int, number: int) -> None:
            await ask(stack.history, client, "acme", f"crash {user} {number}", TOKENS, pin="fp8")

        load = asyncio.create_task(closed_loop(24, lambda: not crashing, turn))
        for _ in range(crashes):
            await asyncio.sleep(1.5)
            stack.history.note("kill the server")
            stack.server.kill()
            refusals += await _refusals(once, 5)
            await asyncio.sleep(1.0)  # those who wait for it wait longer and longer
            refusals += await _refusals(once, 2)
            stack.server.start()
            stack.history.note("the server is back")
            back.append(await until(lambda: _serves(once), 10))
        crashing = False
        await load
    async with stack.broker() as broker:
        verdict = await stack.history.check(broker)
    # Told before `accepted` only, or there would be a violation.
    verdict.assert_sound({AWAY})
    assert max(refusals) < 2.0  # 1 s is promised; the rest is a busy machine's
    board.record(
        5,
        f"{fsync}: {crashes} crashes, {verdict.count['accepted']} accepted, 0 lost; "
        f"back {max(back):.2f} s, refusals {max(refusals):.2f} s",
        max(back) <= 2.0 and max(refusals) <= 1.0,
    )


async def test_a_hang_is_survived(chaos_stack: MakeStack, board: Scoreboard) -> None:
    """SIGSTOP: the connections stay open and nothing comes."""
    stack = chaos_stack(engine={"token_ms": 10}, workers=2, lease_ms=30_000)
    async with stack.client() as client, _once(stack) as once:
        asks = [asyncio.create_task(ask(stack.history, client, "acme", f"hang {i}", 300, pin="fp8")) for i in range(16)]
        await asyncio.sleep(0.5)
        stack.history.note("hang")
        stack.server.pause()
        refusals = await _refusals(once, 5)
        stack.server.resume()
        back = await until(lambda: _serves(once), 10)
        records = await asyncio.gather(*asks)
        # It was shorter than the lease: the same workers sent again what was not answered.
        assert {finish.attempts for record in records for finish in record.finishes} == {1}
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound()
    assert max(refusals) < 2.0
    board.record(5, f"hang: back {back:.2f} s, refusals {max(refusals):.2f} s", back <= 2.0 and max(refusals) <= 1.0)


def _once(stack: ChaosStack) -> bitlane.AsyncClient:
    return bitlane.AsyncClient(stack.target, api_key=ACME, retry=ONCE, timeout=10)


async def _refusals(once: bitlane.AsyncClient, count: int) -> list[float]:
    """Seconds until each of some calls was told that the broker is away."""
    times: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        with pytest.raises(bitlane.Unavailable) as away:
            await once.generate("while away", model="smollm2", pin="fp8", max_tokens=1)
        assert away.value.reason == AWAY
        times.append(time.perf_counter() - began)
    return times


async def _serves(once: bitlane.AsyncClient) -> bool:
    await once.generate("are you back", model="smollm2", pin="fp8", max_tokens=1)
    return True
