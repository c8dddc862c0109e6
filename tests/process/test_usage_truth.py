"""Usage equals the sum of the streams' tokens, to the token, when workers and routers die and clients leave."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from grpc import aio

import bitlane
from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scripted import expected_tokens
from tests.process.tenants import Operator, key_of, seeded

pytestmark = pytest.mark.timeout(180)

SECONDS = 12.0
USERS = 24
PRICES = {"fp4": (100, 200), "fp8": (250, 500)}  # nanos a token: prompt, output
TENANTS = ("red", "blue")


@pytest.fixture
def stack(make_stack: StackMaker, tmp_path: Path) -> Stack:
    pools = [
        {"precision": name.upper(), "price": {"prompt": prompt / 1000, "output": output / 1000}}
        for name, (prompt, output) in PRICES.items()
    ]
    models = [{"name": "smollm2", "context_tokens": 2048, "pools": pools}]
    config = seeded(tmp_path, {tenant: {} for tenant in TENANTS}, models=models)
    return make_stack(engine_options='{"token_ms": 4}', lease_ms=800, config=config)


async def test_usage_is_the_sum_of_the_streams(stack: Stack) -> None:
    began = time.time()
    for pool in list(stack.workers):
        stack.add_worker(pool)
        stack.wait_for_worker(pool)
    second = stack.add_router()
    port = int(stack.target_of(second).rpartition(":")[2])
    targets = [stack.target, f"localhost:{port}"]
    seen: dict[str, Counter[str]] = {tenant: Counter() for tenant in TENANTS}
    stop = time.monotonic() + SECONDS

    async def one(client: bitlane.AsyncClient, tenant: str, prompt: str) -> None:
        """One request, in one of the ways in which clients behave; its usage is read back from its end."""
        length, precision = random.randrange(1, 120), random.choice(("fp4", "fp8"))
        request_id = f"{tenant}-{prompt}".replace(" ", "-")
        stream = client.stream(prompt, model="smollm2", pin=precision, max_tokens=length, request_id=request_id)
        match random.choice(("read", "read", "read", "twice", "cancel", "leave")):
            case "read":
                usage = (await stream.result()).usage
            case "twice":  # a retry with the same id joins: it is one request
                again = client.stream(prompt, model="smollm2", pin=precision, max_tokens=length, request_id=request_id)
                (first, other) = await asyncio.gather(stream.result(), again.result())
                assert first.usage == other.usage
                usage = first.usage
            case "cancel":
                await stream.accepted()
                await asyncio.sleep(random.random() / 5)
                usage = (await client.cancel(request_id)).usage
            case _:
                await stream.accepted()
                await asyncio.sleep(random.random() / 5)
                await stream.close()
                usage = (await client.resume(request_id).result()).usage
        assert usage.output_tokens <= len(expected_tokens(prompt, length))
        prices = PRICES[precision]
        seen[tenant].update(
            requests=1,
            prompt=usage.prompt_tokens,
            output=usage.output_tokens,
            cost=usage.prompt_tokens * prices[0] + usage.output_tokens * prices[1],
            fp8_cost=usage.prompt_tokens * PRICES["fp8"][0] + usage.output_tokens * PRICES["fp8"][1],
        )

    async def user(client: bitlane.AsyncClient, tenant: str, number: int) -> None:
        turn = 0
        while time.monotonic() < stop:
            turn += 1
            await one(client, tenant, f"user {number} turn {turn}")

    async def chaos() -> None:
        while time.monotonic() < stop - 3:
            await asyncio.sleep(1.5)
            pool = random.choice(list(stack.workers))
            live = [worker for worker in stack.workers[pool] if worker.returncode is None]
            if len(live) > 1:
                random.choice(live).kill()
                stack.add_worker(pool)
            if random.random() < 0.3:
                stack.routers[-1].kill()
                stack.add_router(port)

    async with (
        bitlane.AsyncClient(targets, api_key=key_of("red"), timeout=60) as red,
        bitlane.AsyncClient(targets, api_key=key_of("blue"), timeout=60) as blue,
        aio.insecure_channel(stack.target) as channel,
    ):
        clients = {"red": red, "blue": blue}
        users = [user(clients[TENANTS[i % 2]], TENANTS[i % 2], i) for i in range(USERS)]
        await asyncio.gather(chaos(), *users)
        operator = Operator(channel)
        for tenant in TENANTS:
            (row,) = await operator.usage(tenant, began)
            told = Counter(
                requests=row.requests,
                prompt=row.prompt_tokens,
                output=row.output_tokens,
                cost=row.cost_nanos,
                fp8_cost=row.fp8_cost_nanos,
            )
            assert told == seen[tenant]
            assert row.failed_requests == 0
            parts = await operator.usage(tenant, began, [apb.USAGE_DIMENSION_PRECISION, apb.USAGE_DIMENSION_KEY])
            assert {part.precision for part in parts} == {pb.PRECISION_FP4, pb.PRECISION_FP8}
            assert {part.key for part in parts} == {"test"}
            assert sum(part.output_tokens for part in parts) == row.output_tokens
            state = await operator.quota(tenant)
            assert (state.concurrent_requests, state.queued_requests, state.reserved_tokens) == (0, 0, 0)
            assert state.day_spent_nanos == seen[tenant]["cost"]
