"""Two tenants that want more than there is get tokens by their weights, whatever they ask for and wherever."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from grpc import aio

import bitlane
from tests.process.conftest import StackMaker
from tests.process.tenants import Operator, key_of, seeded

pytestmark = pytest.mark.timeout(120)

WARM_UP_S, MEASURED_S = 3.0, 16.0
WAITING = 80  # requests that each tenant keeps in the queue or running


@pytest.mark.parametrize(
    ("heavy_tokens", "light_tokens", "asked"),
    [(8, 160, 1), (160, 8, 1), (24, 24, 10)],
    ids=["small-and-large", "large-and-small", "ten-times-overestimated"],
)
async def test_weights_hold(
    make_stack: StackMaker, tmp_path: Path, heavy_tokens: int, light_tokens: int, asked: int
) -> None:
    """Weights 3 and 1, one pool, two routers: one tenant sends nine in ten to the first, the other to the second.

    Args:
        asked: so many times the real length is max_tokens; a stop string ends the reply.
    """
    config = seeded(tmp_path, {"heavy": {"weight": 3.0}, "light": {"weight": 1.0}})
    stack = make_stack(engine_options='{"token_ms": 8, "slots": 8}', lease_ms=5000, config=config)
    targets = [stack.target, stack.target_of(stack.add_router())]
    lengths = {"heavy": heavy_tokens, "light": light_tokens}
    served: Counter[str] = Counter()
    began = time.monotonic()

    def measured() -> bool:
        return began + WARM_UP_S < time.monotonic() < began + WARM_UP_S + MEASURED_S

    async def user(tenant: str, clients: list[bitlane.AsyncClient], number: int) -> None:
        length, turn = lengths[tenant], 0
        while time.monotonic() < began + WARM_UP_S + MEASURED_S:
            turn += 1
            favourite = 0 if tenant == "heavy" else 1
            client = clients[favourite if random.random() < 0.9 else 1 - favourite]
            # Every token begins with its number, so the next number ends the reply.
            stop = [f" {length}-"] if asked > 1 else []
            prompt = f"{tenant} {number} {turn}"
            stream = client.stream(prompt, model="smollm2", pin="fp8", max_tokens=length * asked, stop=stop)
            first = True
            async for delta in stream:
                # The prompt's tokens count as well; they are words to this engine.
                if measured():
                    served[tenant] += len(delta.token_ids) + (len(prompt.split()) if first else 0)
                first = False

    least: dict[str, int] = dict.fromkeys(lengths, WAITING)

    async def watch(operator: Operator) -> None:
        """Whoever has nothing waiting wants no more than there is."""
        while time.monotonic() < began + WARM_UP_S + MEASURED_S:
            await asyncio.sleep(0.2)
            for tenant in lengths if measured() else ():
                least[tenant] = min(least[tenant], (await operator.quota(tenant)).queued_requests)

    async with aio.insecure_channel(stack.target) as channel, asyncio.TaskGroup() as tasks:
        tasks.create_task(watch(Operator(channel)))
        for tenant in lengths:
            clients = [
                bitlane.AsyncClient(target, api_key=key_of(tenant), retry=bitlane.RetryPolicy.none())
                for target in targets
            ]
            for number in range(WAITING):
                tasks.create_task(user(tenant, clients, number))
    assert served["heavy"] / served["light"] == pytest.approx(3.0, rel=0.05), (served, least)
