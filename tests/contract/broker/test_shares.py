"""Who gets how many tokens over time: a simulated pool with many slots, on the real queue.

Only the engine is simulated: a request holds its slot for as many ticks as it has tokens. Everybody always has work
waiting.
"""

import asyncio
import heapq
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from broker import Broker
from broker.types import Claim, Outcome, Usage
from tests.contract.broker.requests import POOL, make_submission

SLOTS = 8
DEPTH = 32  # requests that a tenant keeps waiting


@dataclass(frozen=True, slots=True)
class Tenant:
    weight: float
    tokens: int  # of each of its requests
    estimate: int


class Pool:
    """Serves the tenants; nine of ten requests come by one broker, the rest by the other."""

    def __init__(self, broker: Broker, other: Broker, tenants: dict[str, Tenant]) -> None:
        self._brokers = [other, *[broker] * 9]
        self._tenants = tenants
        self._submitted = Counter[str]()
        self._waiting = Counter[str]()
        self._running: list[tuple[int, int, Claim]] = []  # by the tick of their end
        self._claimed = 0
        self._now = 0
        self.finished = Counter[str]()  # requests

    async def serve_until(self, name: str, finished: int) -> Counter[str]:
        """Goes on until so many requests of a tenant have ended; returns the tokens finished of each until then."""
        while self.finished[name] < finished:
            await self._fill()
            await self._claim()
            await self._finish()
        return Counter({name: count * self._tenants[name].tokens for name, count in self.finished.items()})

    async def _fill(self) -> None:
        calls = [
            self._submit(name, tenant)
            for name, tenant in self._tenants.items()
            if self._waiting[name] <= DEPTH // 2
            for _ in range(DEPTH - self._waiting[name])
        ]
        await asyncio.gather(*calls)

    async def _submit(self, name: str, tenant: Tenant) -> None:
        number = self._submitted[name]
        self._submitted[name] += 1
        self._waiting[name] += 1
        submission = make_submission(f"{name}-{number}", name, weight=tenant.weight, prompt_tokens=1)
        await self._brokers[number % 10].submit(replace(submission, output_tokens=tenant.estimate - 1))

    async def _claim(self) -> None:
        for claim in await self._brokers[1].claim(POOL, "w1", b"", SLOTS - len(self._running)):
            name = claim.lease.ref.tenant
            self._waiting[name] -= 1
            self._claimed += 1
            heapq.heappush(self._running, (self._now + self._tenants[name].tokens, self._claimed, claim))

    async def _finish(self) -> None:
        """All that end next."""
        self._now = self._running[0][0]
        ended: list[Claim] = []
        while self._running and self._running[0][0] == self._now:
            ended.append(heapq.heappop(self._running)[2])
        await asyncio.gather(*map(self._end, ended))

    async def _end(self, claim: Claim) -> None:
        name = claim.lease.ref.tenant
        self.finished[name] += 1
        usage = Usage(1, 0, self._tenants[name].tokens - 1)
        await self._brokers[1].finish(claim.lease, 0, None, 0, Outcome.STOP, "", usage)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("heavy", "light", "slow", "warm", "enough"),
    [
        pytest.param(Tenant(3, 10, 100), Tenant(1, 2000, 20_000), "light", 8, 28, id="small heavy, all estimate 10x"),
        pytest.param(Tenant(3, 2000, 20_000), Tenant(1, 10, 10), "heavy", 16, 106, id="large heavy and estimates 10x"),
        pytest.param(Tenant(3, 2000, 2000), Tenant(1, 10, 100), "heavy", 16, 106, id="small light and estimates 10x"),
    ],
)
async def test_finished_tokens_are_as_the_weights_whatever_sizes_and_estimates(
    broker: Broker, heavy: Tenant, light: Tenant, slow: str, warm: int, enough: int
) -> None:
    """Counted between two ends of large requests, after the first have taught what estimates are worth."""
    options = replace(broker.options, resume_window_ms=100, timeout_s=20)
    async with Broker(options) as one, Broker(options) as other:
        pool = Pool(one, other, {"heavy": heavy, "light": light})
        before = await pool.serve_until(slow, warm)
        after = await pool.serve_until(slow, enough)
    ratio = (after["heavy"] - before["heavy"]) / (after["light"] - before["light"])
    assert abs(ratio / 3 - 1) < 0.05, ratio
