"""Promise 15: promises 1 and 2 hold on bad networks, between clients and routers as between those and Redis."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import bitlane
from tests.chaos.conftest import MakeStack
from tests.chaos.faults import Direction, FaultProxy
from tests.chaos.load import all_got, ask, closed_loop
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import FP8, ChaosStack
from tests.process.scripted import ACME

pytestmark = [pytest.mark.timeout(300), pytest.mark.promise(15)]

TOKENS = 40
# What a client may be told for a request that was not accepted.
AWAY = {"BROKER_UNAVAILABLE", "ConnectionFailed"}


def slow(line: FaultProxy) -> None:
    for direction in (line.up, line.down):
        direction.latency_s, direction.jitter_s = 0.05, 0.05


def lossy(line: FaultProxy) -> None:
    for direction in (line.up, line.down):
        direction.loss = 0.05


def narrow(line: FaultProxy) -> None:
    for direction in (line.up, line.down):
        direction.bytes_per_s, direction.write_bytes = 200_000, 1000


def byte_by_byte(line: FaultProxy) -> None:
    for direction in (line.up, line.down):
        direction.write_bytes = 1


FAULTS: dict[str, Callable[[FaultProxy], None]] = {
    "latency": slow,
    "loss": lossy,
    "bandwidth": narrow,
    "one-byte-writes": byte_by_byte,
}


@dataclass(frozen=True)
class Lines:
    """All three lines of a stack."""

    client: FaultProxy
    router: FaultProxy
    worker: FaultProxy

    def each(self) -> dict[str, FaultProxy]:
        return {"client": self.client, "router": self.router, "worker": self.worker}


async def use(stack: ChaosStack, target: str, seconds: float, users: int = 6) -> None:
    """Users for a while, whose requests are all checked at the end."""
    until = time.monotonic() + seconds
    async with bitlane.AsyncClient([target, stack.targets[-1]], api_key=ACME, timeout=60) as client:

        async def turn(user: int, number: int) -> None:
            prompt = f"net {seconds} {user} {number} {time.monotonic()}"
            await ask(stack.history, client, "acme", prompt, TOKENS, pin="fp8")

        await closed_loop(users, lambda: time.monotonic() > until, turn)


@pytest.mark.parametrize("fault", FAULTS)
async def test_slow_and_broken_lines(chaos_stack: MakeStack, board: Scoreboard, full: bool, fault: str) -> None:
    """One line after the other is bad, then all; in the midst of it a worker is killed."""
    seconds = 4.0 if full else 1.2
    stack = chaos_stack(engine={"token_ms": 10}, routers=2, workers=2, lease_ms=2000, proxied=True)
    with FaultProxy(stack.target) as client_line:
        lines = Lines(client_line, stack.router_line, stack.worker_line).each()
        for name, line in lines.items():
            stack.history.note(f"{fault} on the {name}'s line")
            FAULTS[fault](line)
            await use(stack, client_line.target, seconds)
            line.heal()
        for line in lines.values():
            FAULTS[fault](line)
        stack.history.note(f"{fault} on all lines")
        load = asyncio.create_task(use(stack, client_line.target, seconds))
        await asyncio.sleep(seconds / 2)
        stack.history.note("kill a worker")
        stack.add_worker(FP8)
        stack.live_workers(FP8)[0].kill()
        await load
        for line in lines.values():
            line.heal()
    async with stack.broker() as broker:
        verdict = await stack.history.check(broker)
    verdict.assert_sound(AWAY)
    refused = sum(verdict.errors.values())
    board.record(15, f"{fault}: {verdict.count['accepted']} streams, 0 tokens lost or doubled, {refused} refused", True)


async def test_resets(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    """Every connection of a random line is reset, several times a second."""
    seconds = 15.0 if full else 4.0
    stack = chaos_stack(engine={"token_ms": 10}, routers=2, workers=2, lease_ms=2000, proxied=True)
    dice = random.Random()
    resets = 0
    with FaultProxy(stack.target) as client_line:
        lines = (client_line, stack.router_line, stack.worker_line)
        load = asyncio.create_task(use(stack, client_line.target, seconds))
        while not load.done():
            await asyncio.sleep(dice.uniform(0.1, 0.5))
            dice.choice(lines).reset()
            resets += 1
        await load
    async with stack.broker() as broker:
        verdict = await stack.history.check(broker)
    verdict.assert_sound(AWAY)
    board.record(
        15,
        f"{resets} resets: {verdict.count['accepted']} streams, {verdict.count['resumes']} resumes, 0 lost or doubled",
        True,
    )


@pytest.mark.parametrize("whose", ["router", "worker"])
async def test_a_half_open_line_to_redis(chaos_stack: MakeStack, board: Scoreboard, whose: str) -> None:
    """All that is under way vanishes without a word; new connections work."""
    stack = chaos_stack(engine={"token_ms": 10}, lease_ms=2000, proxied=True)
    line = stack.router_line if whose == "router" else stack.worker_line
    async with stack.client() as client:
        asks = [asyncio.create_task(ask(stack.history, client, "acme", f"half {i}", 200, pin="fp8")) for i in range(12)]
        await all_got(stack.history, 12, 20)
        stack.history.note(f"half-open: {whose}")
        await vanish(line)
        records = await asyncio.gather(*asks)
        longest = max(record.longest_pause for record in records)
        after = await ask(stack.history, client, "acme", "after", 5, pin="fp8")
        assert not after.errors
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound()
    assert longest < 10.0
    board.record(15, f"half-open {whose} to Redis: found and mended in {longest:.1f} s", longest <= 5.0)


async def test_a_half_open_line_to_the_router(chaos_stack: MakeStack, board: Scoreboard) -> None:
    """Neither side is told. The client's pings find out within 15 s and it resumes elsewhere; so do the router's."""
    stack = chaos_stack(engine={"token_ms": 100}, routers=2)
    with FaultProxy(stack.target) as line:
        async with bitlane.AsyncClient([line.target, stack.targets[1]], api_key=ACME, timeout=120) as client:
            asks = [
                asyncio.create_task(ask(stack.history, client, "acme", f"open {i}", 220, pin="fp8")) for i in range(8)
            ]
            await all_got(stack.history, 8, 5)
            stack.history.note("half-open: the client's line")
            line.up.blackhole = line.down.blackhole = True
            records = await asyncio.gather(*asks)
        longest = max(record.longest_pause for record in records)
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound()
    board.record(15, f"half-open client: keepalive finds it in {longest:.1f} s", longest <= 20.0)


async def vanish(line: FaultProxy) -> None:
    """Every open connection of the line that is used falls into a black hole; those made afterwards do not."""
    for direction in (line.up, line.down):
        direction.blackhole = True
    await asyncio.sleep(0.3)  # the inbox and the pipeline are used all the time
    for direction in (line.up, line.down):
        direction.blackhole = False


def test_a_healed_direction_is_as_new() -> None:
    direction = Direction()
    direction.loss, direction.paused = 0.5, True
    direction.heal()
    assert direction == Direction()
