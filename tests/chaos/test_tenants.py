"""Promises 8 and 10: what one tenant, or one reader, does to the others."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config import ConfigError, load_config
from tests.chaos.conftest import MakeStack
from tests.chaos.flood import Flood, Outcome, flood_apart
from tests.chaos.history import quantile
from tests.chaos.load import Bare, Habit, closed_loop, until
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import FP4, ChaosStack, memory_mib, roomy

pytestmark = pytest.mark.timeout(240)

A_PER_MINUTE = 240
TIMES = 20
B_A_SECOND = 10
FP4_PIN, FP8_PIN = 1, 2


def key_of(tenant: str) -> str:
    return f"bl_test_{tenant}"


def limited(folder: Path) -> Path:
    """Two tenants: A may send so many requests a minute, B what it likes."""
    config: dict[str, Any] = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
    limits = {"a": {"requests_per_minute": A_PER_MINUTE}, "b": {}}
    config["tenants"] = [
        {
            "id": tenant,
            "keys": [{"name": "test", "sha256": hashlib.sha256(key_of(tenant).encode()).hexdigest()}],
            "quota": {"limits": bounds},
        }
        for tenant, bounds in limits.items()
    ]
    path = folder / "limited.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@pytest.mark.promise(8)
async def test_a_flood_of_one_tenant_is_not_anothers(
    chaos_stack: MakeStack, board: Scoreboard, full: bool, tmp_path: Path
) -> None:
    """A sends twenty times its quota, from a process of its own; rounds with and without A alternate."""
    config = limited(tmp_path)
    try:
        load_config(config)
    except ConfigError as error:
        if "quota" in str(error):
            pytest.xfail("pending: tenants have no quotas yet")
        raise
    rounds, seconds = (4, 8.0) if full else (1, 4.0)
    stack = chaos_stack(engine={"token_ms": 5, "slots": 64}, config=config)
    steady = Flood(stack.target, key_of("b"), B_A_SECOND, seconds, pin=FP8_PIN)
    attack = Flood(stack.target, key_of("a"), A_PER_MINUTE / 60 * TIMES, seconds, pin=FP8_PIN)
    await flood_apart(Flood(stack.target, key_of("b"), B_A_SECOND, 1.0, pin=FP8_PIN))
    alone: list[Outcome] = []
    pressed: list[Outcome] = []
    attacks: list[Outcome] = []
    for _ in range(rounds):
        alone.append(await flood_apart(steady))
        both = await asyncio.gather(flood_apart(steady), flood_apart(attack))
        pressed.append(both[0])
        attacks.append(both[1])
    for outcome in (*alone, *pressed):
        assert (outcome.done, outcome.wrong) == (outcome.sent, 0), outcome
    refused = sum(outcome.refused.total() for outcome in attacks)
    assert refused > 0
    assert {reason for outcome in attacks for reason in outcome.refused} == {"QUOTA_REQUESTS"}
    assert sum(outcome.pushed_back for outcome in attacks) == refused
    before, after = (quantile([t for o in each for t in o.first_token_s], 0.99) * 1000 for each in (alone, pressed))
    board.record(
        8,
        f"B's p99 {after:.0f} ms, alone {before:.0f} ms; 0 errors; {refused} of A's refused with pushback",
        after <= 1.25 * before + 20,
    )


@pytest.mark.promise(10)
async def test_slow_readers_hurt_only_themselves(
    chaos_stack: MakeStack, board: Scoreboard, full: bool, tmp_path: Path
) -> None:
    """Some read one token a second, some stop; the baseline has the same replies, read at once."""
    rounds, turns = (3, 25) if full else (1, 10)
    stack = chaos_stack(engine={"token_ms": 5, "slots": 64}, config=roomy(tmp_path))
    quick: list[float] = []
    beside_slow: list[float] = []
    async with (
        Bare(stack.history, stack.target, "globex") as readers,
        Bare(stack.history, stack.target, "acme") as bare,
    ):
        await neighbours(bare, 3)
        for _ in range(rounds):
            for times, habits in ((quick, [Habit()] * 6), (beside_slow, [Habit(pause_s=1.0), Habit(pause_s=60.0)] * 3)):
                reading = [
                    asyncio.create_task(readers.generate(f"long {i}", 20_000, pin=FP8_PIN, habit=habit))
                    for i, habit in enumerate(habits)
                ]
                await until(lambda: all(r.accepted for r in stack.history.records[-6:]), 10)
                times += await neighbours(bare, turns)
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)
    for record in stack.history.records:
        record.left |= record.max_tokens > 1000
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound()
    before, after = quantile(quick, 0.99) * 1000, quantile(beside_slow, 0.99) * 1000
    board.record(
        10,
        f"neighbours' p99 {after:.0f} ms beside slow readers, {before:.0f} ms beside quick ones",
        after <= before * 1.1,
    )


async def neighbours(bare: Bare, turns: int) -> list[float]:
    """Times of whole short replies, a few users at once."""
    times: list[float] = []

    async def turn(user: int, number: int) -> None:
        answer = await bare.generate(f"short {user} {number}", 20, pin=FP8_PIN, timeout=60)
        assert not answer.record.errors
        times.append(answer.seconds)

    left = turns * 4

    def enough() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    await closed_loop(4, enough, turn)
    return times


@pytest.mark.promise(10)
async def test_what_nobody_reads_is_not_kept_in_the_router(
    chaos_stack: MakeStack, board: Scoreboard, full: bool, tmp_path: Path
) -> None:
    """Readers that stop, of long replies that come as fast as they can; read on later, they miss nothing."""
    count, tokens = (4, 80_000) if full else (2, 40_000)
    stack = chaos_stack(engine={"token_ms": 0}, config=roomy(tmp_path))
    async with Bare(stack.history, stack.target, "acme") as bare:
        await bare.generate("warm", 500, pin=FP4_PIN)
        before = memory_mib(stack.routers[0].pid)
        resumed = asyncio.Event()
        reading = [
            asyncio.create_task(bare.generate(f"unread {i}", tokens, pin=FP4_PIN, habit=Habit(wait=resumed)))
            for i in range(count)
        ]
        await until(lambda: _all_ended(stack, count), 120, every_s=0.2)
        grown = memory_mib(stack.routers[0].pid) - before
        resumed.set()
        answers = await asyncio.gather(*reading)
    assert all(answer.record.finishes for answer in answers)
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound()
    size = sum(len(piece.text) for answer in answers for piece in answer.record.pieces) / 2**20
    assert grown < 64
    board.record(10, f"{size:.1f} MiB unread: the router grew by {grown:.1f} MiB", grown < 32)


async def _all_ended(stack: ChaosStack, count: int) -> bool:
    async with stack.broker() as broker:
        (state,) = await broker.pools([FP4])
    records = stack.history.records[-count:]
    return state.running == 0 and state.waiting == 0 and all(record.accepted for record in records)
