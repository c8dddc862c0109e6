"""A whole stack on Redis Cluster: tenants spread over the nodes, and a node that dies costs a pause."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import bitlane
from broker import keys
from deploy.local.stack import Stack
from tests.process.cluster import Cluster
from tests.process.scripted import OPERATOR, expected_text, expected_tokens

pytestmark = pytest.mark.timeout(180)

SHARDS = 6
TOKENS = 400
FP8 = "smollm2/fp8"
# Two of each shard.
TENANTS = tuple(
    tenant
    for shard in range(SHARDS)
    for tenant in [f"tenant-{n}" for n in range(99) if keys.shard_of(f"tenant-{n}", SHARDS) == shard][:2]
)


def key_of(tenant: str) -> str:
    return f"bl_cluster_{tenant}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    def sha256(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    lines = [
        "models: [{name: smollm2, context_tokens: 2048, pools: [{precision: FP4}, {precision: FP8}]}]",
        f"operators: [{{name: local, sha256: {sha256(OPERATOR)}}}]",
        "tenants:",
        *(f"  - {{id: {each}, keys: [{{name: k, sha256: {sha256(key_of(each))}}}]}}" for each in TENANTS),
    ]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


MakeStack = Callable[[Cluster], Awaitable[Stack]]


@pytest.fixture
async def on_cluster(config: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeStack]:
    """Starts a cluster, and on it two routers and two FP8 workers."""
    monkeypatch.setenv("BITLANE_ROUTER_BROKER_SHARDS", str(SHARDS))
    monkeypatch.setenv("BITLANE_WORKER_BROKER_SHARDS", str(SHARDS))
    async with AsyncExitStack() as opened:

        async def start(cluster: Cluster) -> Stack:
            opened.callback(cluster.stop)
            await cluster.start()
            options = '{"token_ms": 5, "slots": 32}'
            stack = Stack(engine="scripted", engine_options=options, lease_ms=2000, config=config)
            stack.server = cluster.primaries[0]
            opened.callback(stack.stop)
            stack.start()
            stack.add_worker(FP8)
            stack.wait_for_worker(FP8)
            stack.target_of(stack.add_router())
            return stack

        yield start


class Streams:
    """One for each tenant, read to the end."""

    def __init__(self, stack: Stack, tenants: tuple[str, ...] = TENANTS) -> None:
        targets = [stack.target_of(router) for router in stack.routers]
        self.seen = dict.fromkeys(tenants, 0)
        self.completions: dict[str, bitlane.Completion] = {}
        self.cut: dict[str, str] = {}  # what a reply that ended with an error had said
        self._tasks = {
            tenant: asyncio.create_task(self._read(tenant, targets[number % 2 :] + targets[: number % 2]))
            for number, tenant in enumerate(tenants)
        }

    async def until(self, tokens: int) -> None:
        while min(self.seen.values()) < tokens:
            assert not self.cut
            await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """Waits until every reply has ended, however."""
        await asyncio.gather(*self._tasks.values())

    async def finish(self, tenants: tuple[str, ...] = TENANTS) -> None:
        """Every token came exactly once, in its order, in one reply."""
        await asyncio.gather(*(self._tasks[tenant] for tenant in tenants))
        assert not self.cut
        self.check(tenants)

    def check(self, tenants: tuple[str, ...]) -> None:
        for tenant in tenants:
            completion = self.completions[tenant]
            assert completion.token_ids == expected_tokens(tenant, TOKENS)
            assert completion.text == expected_text(tenant, TOKENS)
            assert completion.usage.output_tokens == TOKENS

    async def _read(self, tenant: str, targets: list[str]) -> None:
        async with bitlane.AsyncClient(targets, api_key=key_of(tenant), timeout=90) as client:
            stream = client.stream(tenant, model="smollm2", pin="fp8", max_tokens=TOKENS)
            try:
                async for delta in stream:
                    self.seen[tenant] += len(delta.token_ids)
                self.completions[tenant] = await stream.result()
            except bitlane.BitlaneError:
                self.cut[tenant] = stream.text


async def test_a_node_dies_and_comes_back(on_cluster: MakeStack) -> None:
    """It holds neither workers nor documents, only tenants: theirs pause until it is back, all others' do not."""
    cluster = Cluster()
    stack = await on_cluster(cluster)
    shared = {cluster.number_of("workers"), cluster.number_of("documents"), 0}  # 0 is the one that is configured
    (victim,) = {0, 1, 2} - shared if len(shared) == 2 else {2}
    hit = tuple(each for each in TENANTS if cluster.number_of(str(keys.shard_of(each, SHARDS))) == victim)
    spared = tuple(each for each in TENANTS if each not in hit)
    assert hit
    assert spared

    streams = Streams(stack)
    await streams.until(20)
    cluster.primaries[victim].kill()
    await streams.finish(spared)
    assert all(streams.seen[tenant] < TOKENS for tenant in hit)
    cluster.primaries[victim].start()
    await streams.finish()


async def test_every_node_dies_once(on_cluster: MakeStack) -> None:
    """Those with the workers and the documents too, while a worker and a router die beside them."""
    cluster = Cluster()
    stack = await on_cluster(cluster)
    for number, node in enumerate(cluster.primaries):
        streams = Streams(stack)
        await streams.until(20)
        node.kill()
        if number == 1:
            stack.workers[FP8][0].kill()
        if number == 2:
            stack.routers[0].kill()
        await asyncio.sleep(0.5)
        node.start()
        await streams.finish()
        if number == 1:
            stack.add_worker(FP8)
            stack.wait_for_worker(FP8)


async def test_a_replica_takes_over(on_cluster: MakeStack) -> None:
    """Replication is not waited for: the last that a node answered may be gone with it. A reply of which that is true
    ends with an error; what it had said is right, and all other replies are whole (docs/scaling.md).
    """
    cluster = Cluster(replicas=1)
    stack = await on_cluster(cluster)
    for victim in (1, 2):
        streams = Streams(stack)
        await streams.until(20)
        cluster.primaries[victim].kill()
        await cluster.until_promoted(victim)
        await streams.settle()
        streams.check(tuple(streams.completions))
        for tenant, text in streams.cut.items():
            assert cluster.number_of(str(keys.shard_of(tenant, SHARDS))) == victim
            assert expected_text(tenant, TOKENS).startswith(text)

        # Who has the slots now serves them.
        await Streams(stack).finish()
