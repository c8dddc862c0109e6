"""Every script stays within one slot, so Redis Cluster can spread the shards."""

import asyncio
import binascii
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from broker import Broker, BrokerOptions
from broker.documents import Revision
from broker.scripts import load_scripts
from broker.types import (
    Account,
    Change,
    Directive,
    Gap,
    Held,
    Interval,
    LeaseEnded,
    Limits,
    Outcome,
    RequestRef,
    WorkerInfo,
)
from deploy.local.server import LocalServer, free_port
from tests.contract.broker.requests import POOL, UNBOUNDED, USAGE, make_submission

SHARDS = 3
TENANTS = tuple(f"tenant-{n}" for n in range(12))


def slot(key: str) -> int:
    """The slot of a key by the cluster specification: CRC-16/XMODEM of the hash tag, modulo 16384."""
    tag = re.search(r"\{([^}]+)\}", key)
    return binascii.crc_hqx((tag[1] if tag else key).encode(), 0) % 16384


async def run_all(broker: Broker) -> None:
    """Every transition, in an order that makes each do its work, for tenants of all shards."""
    for tenant in TENANTS:
        for name in ("first", "second"):
            accounts = (*UNBOUNDED, Account("ci", "", Limits(tokens_per_minute=1_000)))
            await broker.submit(make_submission(name, tenant, migratable=name == "first", accounts=accounts))
    claims = await broker.claim(POOL, "w1", b"profile", 100)
    assert {claim.lease.ref.tenant for claim in claims} == set(TENANTS)
    for claim in claims:
        await broker.append(claim.lease, 0, b"one", 1, 10)
        await broker.renew(claim.lease)
        await broker.attach(claim.lease.ref, "router-2", 0)
        await broker.release(claim.lease, failed=True)
    for attempt in (2, 3):
        for claim in await broker.claim(POOL, "w1", b"profile", 100):
            assert claim.attempt == attempt
            await broker.release(claim.lease, failed=True)
    assert len((await broker.dead_letters()).items) == len(TENANTS)
    for tenant in TENANTS:
        assert await broker.replay(RequestRef(tenant, "first"))
        await broker.cancel(RequestRef(tenant, "first"))
    for tenant in TENANTS:
        for name in ("finished", "cancelled", "abandoned", "reclaimed"):
            await broker.submit(make_submission(name, tenant))
    for claim in await broker.claim(POOL, "w1", b"profile", 100):
        match claim.lease.ref.request_id:
            case "finished":
                assert await broker.finish(claim.lease, 0, b"x", 1, Outcome.STOP, "", USAGE) is Held.YES
            case "cancelled":
                await broker.cancel(claim.lease.ref)
            case "abandoned":
                await broker.abandon(claim.lease.ref, "router-1")
            case _:
                pass
    await asyncio.sleep(broker.options.lease_ms / 1000 + 0.05)
    reclaimed = await broker.reclaim(POOL)
    assert {entry.ref for entry in reclaimed} == {RequestRef(tenant, "reclaimed") for tenant in TENANTS}
    await broker.register(WorkerInfo("w1", POOL, b"", 1, 0))
    (state,) = await broker.pools([POOL])
    assert (len(state.workers), state.waiting, state.running) == (1, len(TENANTS), 0)
    await broker.direct(POOL, "w1", Directive.DRAIN)
    assert (await broker.register(WorkerInfo("w1", POOL, b"", 1, 0))).directive is Directive.DRAIN
    await broker.unregister(POOL, "w1")
    for tenant in TENANTS:
        assert (await broker.account(tenant, "ci", "", Limits(tokens_per_minute=1_000))).reserved_tokens == 0
        assert sum(row.requests for row in await broker.usage(tenant, Interval.DAY, 0, 1)) == 0
    await broker.documents.put("policy/acme", "{}", author="acme/admin", etag="", audit=Change("PutPolicy", "acme"))
    await broker.audit.record("operator/local", "SetWorkerState", "worker/w1", "", "serve", "drain")
    assert [event.action for event in (await broker.audit.list()).items] == ["SetWorkerState", "PutPolicy"]
    assert (await broker.documents.changes(Revision()))[1] == ["policy/acme"]
    await broker.documents.count("shadow/acme", {"same": 1})
    assert {view.ref.tenant for view in await broker.recent()} == set(TENANTS)
    for tenant in TENANTS:
        (view, *_) = await broker.recent(10, tenant)
        assert (await broker.story(view.ref)).transitions


async def test_the_tenants_cover_all_shards() -> None:
    async with Broker(BrokerOptions(shards=SHARDS)) as broker:
        assert {broker.shard_of(tenant) for tenant in TENANTS} == set(range(SHARDS))


async def test_every_key_that_a_script_touches_is_in_one_slot(shared_server: LocalServer, broker: Broker) -> None:
    """By what the server says that it ran, inside the scripts as well: nothing here relies on declared keys."""
    options = BrokerOptions(url=shared_server.url, shards=SHARDS, lease_ms=300)
    reader, writer = await asyncio.open_unix_connection(str(shared_server.socket))
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"
    async with Broker(options) as sharded, sharded.inbox("router-1") as inbox:
        await anext(inbox)
        await run_all(sharded)
        await sharded._registry_pipeline.command("ECHO", "the end")  # pyright: ignore[reportPrivateUsage]

    # A command of a client, then what its script ran: `<time> [<database> <client or "lua">] "COMMAND" "argument" ...`.
    scripts, kinds = set[str](), set[str]()
    touched = set[str]()
    while '"the end"' not in (line := (await reader.readline()).decode()):
        if "[0 lua]" not in line:
            touched = set[str]()
            scripts.update(re.findall(r'"EVALSHA" "(\w+)"', line))
        touched.update(re.findall(r'"(bl:\{[^"]*)"', line))
        assert len({slot(key) for key in touched}) <= 1, touched
        kinds.update(re.sub(r"^bl:\{\d+\}:", "", key).partition(":")[0] for key in touched)
    writer.close()
    await writer.wait_closed()
    assert scripts == {script.sha.decode() for script in load_scripts(options).values()}
    assert kinds >= {
        "req",
        "log",
        "story",
        "recent",
        "waiting",
        "q",
        "fair",
        "lease",
        "bell",
        "pool",
        "tenant",
        "quota",
        "usage",
        "in",
        "ctl",
        "dead",
    }


@pytest.fixture
def cluster(server_binary: Path, request: pytest.FixtureRequest) -> Iterator[list[LocalServer]]:
    """As many cluster nodes as the test asks for; each holds an equal range of the slots."""
    count: int = request.param
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                LocalServer(
                    binary=server_binary,
                    port=0,
                    settings={"cluster-enabled": "yes", "cluster-port": str(free_port())},
                )
            )
            for _ in range(count)
        ]
        yield nodes


async def assign_slots(nodes: list[LocalServer]) -> None:
    controls = [Broker(BrokerOptions(url=node.url)) for node in nodes]
    size = 16384 // len(nodes)
    for number, control in enumerate(controls):
        last = 16383 if number == len(nodes) - 1 else (number + 1) * size - 1
        await control._registry_pipeline.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)  # pyright: ignore[reportPrivateUsage]
        await control._registry_pipeline.command("CLUSTER", "ADDSLOTSRANGE", number * size, last)  # pyright: ignore[reportPrivateUsage]
        port, bus = nodes[0].port, nodes[0].settings["cluster-port"]
        if number:
            await control._registry_pipeline.command("CLUSTER", "MEET", "127.0.0.1", port or 0, bus)  # pyright: ignore[reportPrivateUsage]
    for control in controls:
        while True:
            info = await control._registry_pipeline.command("CLUSTER", "INFO")  # pyright: ignore[reportPrivateUsage]
            nodes_known = f"cluster_known_nodes:{len(nodes)}\r".encode()
            if isinstance(info, bytes) and b"cluster_state:ok" in info and nodes_known in info:
                break
            await asyncio.sleep(0.1)
        await control.close()


@pytest.mark.parametrize("cluster", [1, 2], indirect=True)
async def test_every_transition_runs_on_a_real_cluster(cluster: list[LocalServer]) -> None:
    """With two nodes the broker knows the address of the first only, and follows its redirections."""
    await assign_slots(cluster)
    options = BrokerOptions(url=cluster[0].tcp_url, shards=SHARDS, lease_ms=300)
    async with Broker(options) as broker, broker.inbox("router-1") as inbox:
        assert {type(await anext(inbox)) for _ in range(SHARDS)} == {Gap}

        await run_all(broker)
        tenants = set[str]()
        while tenants != set(TENANTS):
            batch = await asyncio.wait_for(anext(inbox), 5)
            assert not isinstance(batch, Gap)
            tenants |= {event.ref.tenant for event in batch}
        assert await broker.wait_for_work(POOL, 1)
        claims = await broker.claim_next(POOL, "w2", b"", 100, 1, asyncio.Event())
        async with broker.endings("w2") as endings:
            for claim in claims:
                await broker.cancel(claim.lease.ref)
            ended = {await asyncio.wait_for(anext(endings), 5) for _ in claims}
        assert ended == {LeaseEnded(claim.lease.ref, claim.lease.epoch) for claim in claims}
        assert not await broker.wait_for_work(POOL, 0.05)


async def test_shards_do_not_share_keys(broker: Broker) -> None:
    """The same request of the same tenant is elsewhere when the number of shards differs: it must never be changed."""
    tenant = next(tenant for tenant in TENANTS if zlib_shard(tenant) != 0)
    async with Broker(replace(broker.options, shards=SHARDS)) as sharded:
        await sharded.submit(make_submission("r1", tenant))
        assert await broker.claim(POOL, "w1", b"", 1) == []
        assert len(await sharded.claim(POOL, "w1", b"", 1)) == 1


def zlib_shard(tenant: str) -> int:
    return binascii.crc32(tenant.encode()) % SHARDS
