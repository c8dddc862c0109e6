"""Promise 20: everything at once, for a while; and promises 1 to 3, 5 and 14 under the heaviest mix of faults.

The stateful property test of the transitions themselves is tests/contract/broker/test_transitions.py.
"""

import asyncio
import random
import time

import pytest

from tests.chaos.conftest import MakeStack
from tests.chaos.killers import Killer
from tests.chaos.load import Habit, ask, closed_loop
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.soak import soak

# A request that waits while the server is away may be told so, before it is accepted.
AWAY = {"BROKER_UNAVAILABLE", "ConnectionFailed", "ROUTER_DRAINING", "POOL_UNAVAILABLE", "STREAM_CUT"}


@pytest.mark.timeout(240)
@pytest.mark.promise(20)
async def test_nothing_grows(board: Scoreboard, full: bool) -> None:
    report = await soak(60.0 if full else 15.0)
    assert not report.wrong, report.wrong[:10]
    figures = ", ".join(
        f"{name} {early:.0f} -> {late:.0f}"
        for name in ("router_mib", "server_mib", "router_files", "keys")
        for early, late in [report.growth(name)]
    )
    grown = report.grown() if full else []  # the short form is over before anything has settled
    assert not grown, grown
    board.record(20, f"{report.requests} requests with churn {dict(report.churn)}: {figures}; nothing left", True)


@pytest.mark.timeout(1500)
@pytest.mark.promise(20)
async def test_every_fault_at_once(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    """At least 2,000 streams and 200 kills in the long form."""
    streams, kills = (2000, 200) if full else (150, 12)
    stack = chaos_stack(
        engine={"token_ms": 25},
        routers=3,
        workers=3,
        lease_ms=1500,
        durable=True,
        proxied=True,
        worker_env={"BITLANE_WORKER_MAX_ATTEMPTS": "50", "BITLANE_WORKER_DRAIN_S": "0.5"},
        router_env={"BITLANE_ROUTER_DRAIN_S": "0.5"},
    )
    killer = Killer(stack)
    faults = ("kill_worker",) * 14 + ("freeze_worker",) * 3 + ("stop_worker", "kill_router", "kill_router")
    faults += ("stop_router", "crash_server", "hang_server", "reset_lines")
    dice = random.Random(killer.seed)
    clients = {name: [stack.client(name) for _ in range(4)] for name in ("acme", "globex")}
    began = time.monotonic()
    sent = 0

    def killed() -> int:
        return sum(n for fault, n in killer.done.items() if fault.startswith(("kill", "crash")))

    def enough() -> bool:
        nonlocal sent
        sent += 1
        return sent > streams and killed() >= kills

    async def turn(user: int, number: int) -> None:
        tenant = ("acme", "globex")[user % 2]
        habit = Habit()
        if dice.random() < 0.1:
            habit = dice.choice((Habit(cancel_at=dice.randrange(20)), Habit(leave_at=dice.randrange(20))))
        client = dice.choice(clients[tenant])
        await ask(stack.history, client, tenant, f"mix {user} {number}", 60, habit=habit, timeout=240)

    # Should making faults fail, the load must not go on for ever.
    async with asyncio.TaskGroup() as both:
        both.create_task(killer.every(0.4 if full else 0.9, lambda: killed() >= kills, *faults))
        both.create_task(closed_loop(40, enough, turn))
    for own in clients.values():
        for client in own:
            await client.close()
    async with stack.broker() as broker:
        verdict = await stack.history.check(broker)
    verdict.assert_sound(AWAY)
    n = verdict.count
    board.record(
        20,
        f"{n['accepted']} streams, {killed()} kills ({dict(killer.done)}), {n['migrated']} migrated, "
        f"{n['resumes']} resumes in {time.monotonic() - began:.0f} s: 0 tokens lost, doubled or reordered, 0 without "
        f"an end; {verdict.errors.total()} refused",
        True,
    )
