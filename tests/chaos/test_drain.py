"""Promise 13: workers and routers are stopped and replaced under load, and no request fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from broker.types import RequestRef
from tests.chaos.conftest import MakeStack
from tests.chaos.load import Bare, all_got, ask, closed_loop, until
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import FP4, FP8

pytestmark = [pytest.mark.timeout(240), pytest.mark.promise(13)]

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
_SHORT_DRAIN = {"BITLANE_WORKER_DRAIN_S": "0.5"}
_LONG, _SHORT = 200, 20  # tokens of 10 ms


async def test_a_rolling_restart_of_all(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    """Every worker, then every router; each worker has a reply that is longer than it waits, and hands it back."""
    rounds = 3 if full else 1
    stack = chaos_stack(
        engine={"token_ms": 10},
        routers=2,
        workers=2,
        lease_ms=30_000,
        worker_env=_SHORT_DRAIN,
        router_env={"BITLANE_ROUTER_DRAIN_S": "0.5"},
    )
    restarting = True
    async with stack.client("acme") as acme, stack.client("globex") as globex, stack.broker() as broker:

        async def turn(user: int, number: int) -> None:
            client, tenant, pin = ((acme, "acme", "fp4"), (globex, "globex", "fp8"))[user % 2]
            tokens = _LONG if user < 6 else _SHORT
            await ask(stack.history, client, tenant, f"rolling {user} {number}", tokens, timeout=60, pin=pin)

        async def has_just_begun_a_long_one(worker: str) -> bool:
            running = [each for each in stack.history.records if each.max_tokens == _LONG and not each.finishes]
            begun = [RequestRef(each.tenant, each.request_id) for each in running if 0 < len(each.tokens) < _LONG / 2]
            return any([(await broker.story(ref)).request.worker == worker for ref in begun])

        load = asyncio.create_task(closed_loop(16, lambda: not restarting, turn))
        began = time.monotonic()
        for _ in range(rounds):
            for pool in (FP4, FP8):
                for worker in stack.live_workers(pool):
                    await stack.ready(stack.add_worker(pool))
                    await until(partial(has_just_begun_a_long_one, worker.name), 30)
                    stack.history.note(f"stop {worker.name}")
                    worker.terminate()
                    while worker.returncode is None:
                        await asyncio.sleep(0.02)
                    assert worker.returncode == 0, worker.tail()
            for router in stack.live_routers():
                stack.history.note(f"stop {router.name}")
                router.terminate()
                while router.returncode is None:
                    await asyncio.sleep(0.02)
                assert router.returncode == 0, router.tail()
                await stack.ready(stack.replace_router(router))
        restarting = False
        await load
        verdict = await stack.history.check(broker)
    verdict.assert_sound()
    # Handed back, not left to its lease: the lease alone would hold a stream up for 30 s.
    longest = max(record.longest_pause for record in stack.history.records)
    assert longest < 20.0
    refs = [f"{record.tenant}/{record.request_id}" for record in stack.history.records]
    handed_back = sum(any(fields.get("epoch") == "2" for _, fields in stack.story.changes(ref)) for ref in refs)
    assert handed_back >= rounds
    board.record(
        13,
        f"{verdict.count['requests']} requests through {rounds * 6} restarts in {time.monotonic() - began:.0f} s: "
        f"0 failed, {handed_back} handed back, longest pause {longest:.2f} s",
        True,
    )


async def test_health_flips_first(chaos_stack: MakeStack, board: Scoreboard) -> None:
    """Whoever watches a router's health knows before a call is refused or a stream is sent elsewhere."""
    stack = chaos_stack(engine={"token_ms": 10}, router_env={"BITLANE_ROUTER_DRAIN_S": "1"})
    router = stack.routers[0]
    flipped: list[float] = []
    refused: list[float] = []
    async with aio.insecure_channel(stack.target) as channel, Bare(stack.history, stack.target, "acme") as bare:
        stub: Any = HealthStub(channel)

        async def watch() -> None:
            changes = cast("AsyncIterator[health_pb2.HealthCheckResponse]", stub.Watch(health_pb2.HealthCheckRequest()))
            try:
                async for change in changes:
                    if change.status == NOT_SERVING:
                        flipped.append(time.perf_counter())  # noqa: PERF401, the stream ends by an error
            except aio.AioRpcError:
                return

        async def probe() -> None:
            while not refused:
                answer = await bare.generate("probe", 1, pin=2, timeout=5)
                if answer.code is StatusCode.UNAVAILABLE:
                    refused.append(time.perf_counter())

        watching = asyncio.create_task(watch())
        long = asyncio.create_task(bare.generate("long", 400, pin=2, timeout=30))
        await all_got(stack.history, 1, 10)
        probing = asyncio.create_task(probe())
        await asyncio.sleep(0.2)
        router.terminate()
        sent_away = await long
        ended = time.perf_counter()
        await asyncio.gather(watching, probing)
    assert sent_away.reason == "ROUTER_DRAINING"
    assert flipped, "the watcher was never told"
    lead = refused[0] - flipped[0]
    assert flipped[0] < ended
    board.record(13, f"health flips {lead * 1000:+.0f} ms before the first refusal", lead > 0)
