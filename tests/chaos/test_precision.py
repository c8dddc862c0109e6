"""Promise 19: whatever dies, no pool serves what the policy rules out, and receipts tell the truth.

tests/process/test_no_wrong_precision.py has every case of one pool gone; here workers come and go under load.
"""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

import bitlane
from tests.chaos.conftest import MakeStack
from tests.chaos.load import ask, closed_loop
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import FP4, FP8
from tests.process.scripted import ACME_ADMIN

pytestmark = [pytest.mark.timeout(180), pytest.mark.promise(19)]

# Told when no pool that is allowed lives.
GONE = {"POOL_UNAVAILABLE"}
POLICIES = (
    "allow_uncalibrated_fp4: true\n",
    "allow_uncalibrated_fp4: true\nspill: false\n",
    "allow_uncalibrated_fp4: true\nbrownout: {tasks: [math]}\n",
)
BOTH = frozenset({"fp4", "fp8"})


@dataclass(frozen=True)
class Kind:
    """A kind of request, and the precisions that may serve it under any of the policies."""

    allowed: frozenset[str]
    options: dict[str, Any] = field(default_factory=dict[str, Any])


KINDS = (
    Kind(frozenset({"fp8"}), {"pin": "fp8", "task": "chat"}),
    Kind(frozenset({"fp4"}), {"pin": "fp4", "task": "chat"}),
    Kind(frozenset({"fp8"}), {"at_least": "fp8", "task": "chat"}),
    # Critical: not even a brownout lowers it.
    Kind(frozenset({"fp8"}), {"task": "legal"}),
    Kind(BOTH, {"task": "chat"}),
    Kind(BOTH, {"task": "math"}),
)


async def test_no_pool_serves_what_is_ruled_out(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    seconds = 40.0 if full else 10.0
    stack = chaos_stack(engine={"token_ms": 5}, lease_ms=1000)
    over = time.monotonic() + seconds
    dice = random.Random(19)
    async with stack.client() as client, bitlane.AsyncClient(stack.target, api_key=ACME_ADMIN) as admin:

        async def turn(user: int, number: int) -> None:
            kind = KINDS[(user + number) % len(KINDS)]
            prompt = f"precise {user} {number}"
            await ask(
                stack.history, client, "acme", prompt, 15, precisions=list(kind.allowed), timeout=20, **kind.options
            )

        async def pools_come_and_go() -> None:
            while time.monotonic() < over:
                pool = dice.choice((FP4, FP8))
                for worker in stack.live_workers(pool):
                    stack.history.note(f"kill {worker.name}: {pool} is gone")
                    worker.kill()
                # Long enough for the registry to forget it: then requests spill, brown out or are refused.
                await asyncio.sleep(dice.uniform(0.5, 4.5))
                await stack.ready(stack.add_worker(pool))

        async def policies_change() -> None:
            for number in range(10_000):
                if time.monotonic() > over:
                    return
                policy = POLICIES[number % len(POLICIES)]
                await admin.policies.put(policy, etag=(await admin.policies.get()).etag)
                stack.history.note(f"policy {policy!r}")
                await asyncio.sleep(1.5)

        await asyncio.gather(
            closed_loop(24, lambda: time.monotonic() > over, turn), pools_come_and_go(), policies_change()
        )
    async with stack.broker() as broker:
        verdict = await stack.history.check(broker)
    # A pinned request whose pool dies waits there, within its deadline.
    verdict.assert_sound({*GONE, "DEADLINE_EXCEEDED", "DeadlineExceeded"})
    served = Counter(finish.served for record in stack.history.records for finish in record.finishes)
    assert served["fp4"] > 0
    assert served["fp8"] > 0
    board.record(19, f"{served.total()} served while pools died: 0 forbidden, 0 receipts wrong", True)
