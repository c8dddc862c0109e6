"""The server goes away in every way, and comes back."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from broker import Broker, BrokerOptions
from broker.types import BrokerUnavailable, Directive, Held, Interval, Lease, Limits, Outcome, RequestRef, WorkerInfo
from deploy.local.server import LocalServer
from tests.contract.broker.requests import POOL, USAGE, claim_one, make_submission

REF = RequestRef("acme", "r1")
LEASE = Lease(REF, POOL, "w1", 1)

CALLS: dict[str, Callable[[Broker], Awaitable[object]]] = {
    "submit": lambda broker: broker.submit(make_submission()),
    "claim": lambda broker: broker.claim(POOL, "w1", b"", 1),
    "append": lambda broker: broker.append(LEASE, 0, b"x", 1),
    "renew": lambda broker: broker.renew(LEASE),
    "finish": lambda broker: broker.finish(LEASE, 0, b"x", 1, Outcome.STOP, "", USAGE),
    "release": lambda broker: broker.release(LEASE, failed=True),
    "reclaim": lambda broker: broker.reclaim(POOL),
    "cancel": lambda broker: broker.cancel(REF),
    "abandon": lambda broker: broker.abandon(REF, "router-1"),
    "attach": lambda broker: broker.attach(REF, "router-1", 0),
    "read_log": lambda broker: broker.read_log(REF, 0),
    "register": lambda broker: broker.register(WorkerInfo("w1", POOL, b"", 1, 0)),
    "unregister": lambda broker: broker.unregister(POOL, "w1"),
    "pools": lambda broker: broker.pools([POOL]),
    "usage": lambda broker: broker.usage("acme", Interval.DAY, 0, 86_400_000),
    "account": lambda broker: broker.account("acme", "", "", Limits()),
    "direct": lambda broker: broker.direct(POOL, "w1", Directive.DRAIN),
    "directives": lambda broker: broker.directives(POOL),
    "dead_letters": lambda broker: broker.dead_letters(),
    "audit.record": lambda broker: broker.audit.record("a", "b", "c", "", "", ""),
    "audit.list": lambda broker: broker.audit.list(),
    "wait_for_work": lambda broker: broker.wait_for_work(POOL, 0.1),
    "claim_next": lambda broker: broker.claim_next(POOL, "w1", b"", 1, 0.1, asyncio.Event()),
}


async def assert_all_unavailable(broker: Broker) -> None:
    async def attempt(call: Callable[[Broker], Awaitable[object]]) -> float:
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await call(broker)
        return time.monotonic() - started

    seconds = await asyncio.gather(*(attempt(call) for call in CALLS.values()))
    assert max(seconds) < 1.0, dict(zip(CALLS, seconds, strict=True))
    # One by one as well: a call must not depend on the company that it travels in.
    for name, call in list(CALLS.items())[:3]:
        assert await attempt(call) < 1.0, name


async def assert_all_work(broker: Broker, request_id: str) -> None:
    async with broker.inbox("router-1") as inbox:
        await anext(inbox)
        await broker.submit(make_submission(request_id))
        claim = await claim_one(broker)
        assert await broker.append(claim.lease, 0, b"one", 1) is Held.YES
        assert await broker.renew(claim.lease) is Held.YES
        assert await broker.finish(claim.lease, 1, None, 0, Outcome.STOP, "", USAGE) is Held.YES
        assert (await broker.attach(claim.lease.ref, "router-1", 0)).chunks == (b"one",)
        assert await anext(inbox)
        await broker.register(WorkerInfo("w1", POOL, b"", 1, 0))
        assert len((await broker.pools([POOL]))[0].workers) == 1


async def test_a_killed_server_is_noticed_and_its_return_too(own_server: LocalServer) -> None:
    async with Broker(BrokerOptions(url=own_server.url)) as broker:
        await assert_all_work(broker, "before")
        own_server.kill()
        await assert_all_unavailable(broker)
        own_server.start()
        await assert_all_work(broker, "after")


async def test_a_server_that_hangs_is_noticed_and_its_return_too(own_server: LocalServer) -> None:
    async with Broker(BrokerOptions(url=own_server.url)) as broker:
        await assert_all_work(broker, "before")
        own_server.pause()
        try:
            await assert_all_unavailable(broker)
        finally:
            own_server.resume()
        await assert_all_work(broker, "after")


async def test_replies_never_fall_out_of_step(own_server: LocalServer) -> None:
    """Answers that come after their call has given up meet no later call."""
    async with Broker(BrokerOptions(url=own_server.url, timeout_s=0.2)) as broker:
        for number in range(30):
            await broker.submit(make_submission(f"r{number}", decision=b"decision of r%d" % number))
        for round_ in range(10):
            own_server.pause()
            with pytest.raises(BrokerUnavailable):
                await broker.read_log(RequestRef("acme", f"r{round_}"), 0)
            own_server.resume()
            await asyncio.sleep(0.02)
            logs = await asyncio.gather(*(broker.read_log(RequestRef("acme", f"r{n}"), 0) for n in range(30)))
            assert [log.decision for log in logs] == [b"decision of r%d" % n for n in range(30)]


async def test_a_cancelled_call_disturbs_no_other(broker: Broker) -> None:
    for number in range(20):
        await broker.submit(make_submission(f"r{number}", decision=b"%d" % number))
    reads = [asyncio.create_task(broker.read_log(RequestRef("acme", f"r{n}"), 0)) for n in range(20)]
    await asyncio.sleep(0)
    for read in reads[::2]:
        read.cancel()
    logs = await asyncio.gather(*reads[1::2])
    assert [log.decision for log in logs] == [b"%d" % n for n in range(1, 20, 2)]


async def test_an_error_of_one_call_is_its_own(broker: Broker) -> None:
    await broker.submit(make_submission("good"))
    results = await asyncio.gather(
        broker.read_log(RequestRef("acme", "good"), 0),
        broker.read_log(RequestRef("acme", "good"), 5),
        broker.read_log(RequestRef("acme", "missing"), 0),
        broker.read_log(RequestRef("acme", "good"), 0),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == [
        "Attachment",
        "IndexOutOfRange",
        "RequestNotFound",
        "Attachment",
    ]


async def test_forgotten_scripts_are_loaded_again(broker: Broker) -> None:
    await broker.submit(make_submission("a"))
    await broker._shards[0].command("SCRIPT", "FLUSH")  # pyright: ignore[reportPrivateUsage]
    results = await asyncio.gather(*(broker.submit(make_submission(f"b{n}")) for n in range(5)))
    assert [result.waiting for result in results] == [2, 3, 4, 5, 6]


async def test_a_server_that_is_not_ready_is_unavailable(broker: Broker) -> None:
    """READONLY stands for all answers of the kind 'not now'."""
    await broker.submit(make_submission())
    await broker._shards[0].command("REPLICAOF", "127.0.0.1", "1")  # pyright: ignore[reportPrivateUsage]
    try:
        with pytest.raises(BrokerUnavailable):
            await broker.submit(make_submission("r2"))
    finally:
        await broker._registry_pipeline.command("REPLICAOF", "NO", "ONE")  # pyright: ignore[reportPrivateUsage]
    await broker.submit(make_submission("r2"))


async def test_no_server_at_all() -> None:
    async with Broker(BrokerOptions(url="redis://127.0.0.1:1/0")) as broker:
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
            await broker.pools([POOL])
    with pytest.raises(BrokerUnavailable, match="closed"):
        await broker.pools([POOL])


@pytest.mark.parametrize("url", ["http://x", "redis://x/zero"])
def test_a_url_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="broker's URL"):
        Broker(BrokerOptions(url=url))


async def test_each_round_trip_is_told_with_what_went_wrong(own_server: LocalServer) -> None:
    told: list[tuple[float, str]] = []
    options = BrokerOptions(url=own_server.url, timeout_s=0.3)
    async with Broker(options, on_round_trip=lambda seconds, problem: told.append((seconds, problem))) as broker:
        await asyncio.gather(*(broker.submit(make_submission(f"r{n}")) for n in range(5)))
        assert [problem for _, problem in told] == [""], "calls that travel together are one round trip"
        own_server.pause()
        with pytest.raises(BrokerUnavailable):
            await broker.submit(make_submission())
        own_server.resume()
        seconds, problem = told[-1]
        assert problem == "unavailable"
        assert seconds >= 0.2
        await broker._registry_pipeline.command("CONFIG", "SET", "maxmemory", 1)  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(BrokerUnavailable):
            await broker._registry_pipeline.command("SET", "x", 1)  # pyright: ignore[reportPrivateUsage]
        assert told[-1][1] == "OOM"
