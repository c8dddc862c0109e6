"""Promises 1 to 4: workers die, freeze and come back, and no client can tell but by a pause."""

import asyncio
import os
import random
import signal
import time
from typing import Any

import pytest

from bitlane.v1 import inference_pb2 as pb
from broker.types import RequestRef
from tests.chaos.conftest import MakeStack
from tests.chaos.history import quantile
from tests.chaos.killers import Killer
from tests.chaos.load import all_got, ask, closed_loop, new_id, spread, until
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import FP8

pytestmark = pytest.mark.timeout(300)

TOKENS = 60


@pytest.mark.promise(1)
async def test_every_accepted_request_ends_once(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    streams, seconds, every = (500, 60.0, 2.0) if full else (80, 10.0, 1.5)
    # Attempts that the test itself makes fail are no poison.
    env = {"BITLANE_WORKER_MAX_ATTEMPTS": "10"}
    stack = chaos_stack(engine={"token_ms": 25}, workers=2, lease_ms=1000, worker_env=env)
    over = time.monotonic() + seconds
    delays = random.Random(1)
    killer = Killer(stack, spare_starting=True)

    async with stack.client("acme") as acme, stack.client("globex") as globex:
        clients = {"acme": acme, "globex": globex}

        async def turn(user: int, number: int) -> None:
            tenant = ("acme", "globex")[user % 2]
            if number == 0:
                await spread(delays, 2.0)
            pin = ("fp4", "fp8")[user % 2]  # the workers of both pools have streams to lose
            await ask(stack.history, clients[tenant], tenant, f"once {user} {number}", TOKENS, timeout=120, pin=pin)

        kills = asyncio.create_task(killer.every(every, lambda: time.monotonic() > over, "kill_worker"))
        # Enough streams at once that each kill meets some, and in all at least as many as promised.
        users = 50 if full else 20
        started = 0

        def enough() -> bool:
            nonlocal started
            if time.monotonic() > over and started >= streams:
                return True
            started += 1
            return False

        await closed_loop(users, enough, turn)
        await kills
    async with stack.broker() as broker:
        verdict = await stack.history.check(broker)
    verdict.assert_sound()
    missing = sum(v.kind == "no end" for v in verdict.violations)
    doubled = sum(v.kind == "two ends" for v in verdict.violations)
    n = verdict.count
    assert n["requests"] >= streams
    assert n["migrated"] > 0
    board.record(
        1,
        f"{n['accepted']} streams, {killer.done['kill_worker']} kills, {n['migrated']} migrated: "
        f"{missing} missing, {doubled} double",
        not missing and not doubled,
    )


@pytest.mark.promise(2)
@pytest.mark.parametrize("lease_ms", [600, 5000])
async def test_a_death_is_a_pause(chaos_stack: MakeStack, board: Scoreboard, full: bool, lease_ms: int) -> None:
    """SIGKILL at a random token, with the shortest leases of these tests and with the usual ones."""
    rounds = (8 if lease_ms == 600 else 3) if full else (3 if lease_ms == 600 else 1)
    stack = chaos_stack(engine={"token_ms": 5}, lease_ms=lease_ms)
    dice = random.Random()
    pauses: list[float] = []
    async with stack.client() as client:
        for number in range(rounds):
            victim = stack.live_workers(FP8)[0]
            heir = stack.add_worker(FP8)
            asks = [
                asyncio.create_task(
                    ask(stack.history, client, "acme", f"pause {number} {i}", 400, pin="fp8", request_id=new_id("p"))
                )
                for i in range(8)
            ]
            await stack.ready(heir)
            at = dice.randrange(1, 100)
            await all_got(stack.history, 8, at)
            victim.kill()
            ended = await asyncio.gather(*asks)
            # The heir may have been quick enough to claim some of them itself.
            pauses += [r.longest_pause for r in ended if r.finishes and r.finishes[0].attempts > 1]
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound()
    assert pauses
    p99 = quantile(pauses, 0.99)
    board.record(
        2,
        f"lease {lease_ms / 1000:g} s: {len(pauses)} deaths, 0 tokens lost or doubled, pause p99 {p99:.2f} s",
        p99 <= lease_ms / 1000 + 0.5,
    )


@pytest.mark.promise(3)
async def test_a_zombie_cannot_write(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    rounds = 5 if full else 2
    stack = chaos_stack(engine={"token_ms": 5})
    late = 0
    async with stack.client() as client, stack.broker() as broker:
        for number in range(rounds):
            zombie = stack.live_workers(FP8)[0]
            asks = [
                asyncio.create_task(ask(stack.history, client, "acme", f"zombie {number} {i}", 200, pin="fp8"))
                for i in range(8)
            ]
            await all_got(stack.history, 8, 10)
            os.kill(zombie.pid, signal.SIGSTOP)
            stack.history.note(f"freeze {zombie.name}")
            stack.add_worker(FP8)
            if number % 2 == 0:
                # It wakes when all is over,
                records = await asyncio.gather(*asks)
            else:
                # or while another one writes on.
                await all_got(stack.history, 8, 120)
            os.kill(zombie.pid, signal.SIGCONT)
            stack.history.note(f"wake {zombie.name}")
            records = await asyncio.gather(*asks)
            await asyncio.sleep(1.0)  # time enough for it to write, if it could
            for record in records:
                assert record.finishes, record.errors
                assert record.finishes[0].attempts > 1, stack.story.tell(record)
                log = await broker.read_log(RequestRef("acme", record.request_id), 0)
                late += log.next_index - record.pieces[-1].next_index
            zombie.kill()
        (await stack.history.check(broker)).assert_sound()
    assert late == 0
    board.record(3, f"{rounds * 8} streams of zombies: {late} late tokens", late == 0)


@pytest.mark.promise(4)
@pytest.mark.parametrize("guide", [{"regex": "[a-z]+"}, {"json_schema": {"type": "object"}}], ids=["regex", "schema"])
async def test_what_is_guided_is_not_spliced(chaos_stack: MakeStack, board: Scoreboard, guide: dict[str, Any]) -> None:
    """n > 1 has no field in the API, so there is nothing to splice."""
    assert "n" not in pb.SamplingParams.DESCRIPTOR.fields_by_name
    stack = chaos_stack(engine={"token_ms": 5})
    async with stack.client() as client:
        running = asyncio.create_task(ask(stack.history, client, "acme", "guided", 400, pin="fp8", **guide))
        await all_got(stack.history, 1, 5)
        stack.add_worker(FP8)
        stack.live_workers(FP8)[0].kill()
        record = await running
        assert record.errors == ["NOT_MIGRATABLE"]
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound({"NOT_MIGRATABLE"})
    board.record(4, f"{next(iter(guide))}: ABORTED {record.errors[0]}, {len(record.tokens)} tokens before it", True)


@pytest.mark.promise(4)
async def test_what_is_guided_starts_again_before_its_first_token(chaos_stack: MakeStack) -> None:
    stack = chaos_stack(engine={"first_token_ms": 500, "token_ms": 1})
    async with stack.client() as client:
        running = asyncio.create_task(ask(stack.history, client, "acme", "early", 20, pin="fp8", regex="[a-z]+"))
        await until(lambda: any(record.accepted for record in stack.history.records), 30)
        await asyncio.sleep(0.1)
        stack.add_worker(FP8)
        stack.live_workers(FP8)[0].kill()
        record = await running
        assert not record.errors
        assert record.finishes[0].attempts == 2
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound()
