"""A reader gets every chunk once and in order, also when it is slow or the inbox lost entries. Real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker import Broker, BrokerOptions
from broker.types import Held, Lease, Outcome, RequestRef, Usage
from deploy.local.server import LocalServer
from router.faults import Fault
from router.relay import Reader, Relay
from tests.contract.broker.requests import make_submission

POOL = "m/fp8"
REF = RequestRef("acme", "r1")
CHUNKS = [f"chunk {i} {'x' * 50}".encode() for i in range(100)]


@pytest.fixture
async def broker(shared_server: LocalServer) -> AsyncIterator[Broker]:
    """One that looks after its inbox every 0.3 s."""
    async with Broker(BrokerOptions(url=shared_server.url, inbox_ttl_ms=900)) as broker:
        await broker._registry_pipeline.command("FLUSHALL")  # pyright: ignore[reportPrivateUsage]: production never flushes
        yield broker


@pytest.fixture
async def relay(broker: Broker) -> AsyncIterator[Relay]:
    relay = Relay(broker, "router-a", buffer_bytes=1000)
    async with broker.inbox("router-a") as inbox:
        running = asyncio.create_task(relay.run(inbox))
        yield relay
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def submitted(broker: Broker) -> Lease:
    """A request of router-a that a worker holds."""
    submission = make_submission("r1", pool=POOL, router="router-a", timeout_ms=30_000, output_tokens=200)
    assert submission.ref == REF
    await broker.submit(submission)
    (claim,) = await broker.claim(POOL, "w1", b"profile", 1)
    return claim.lease


async def write(broker: Broker, lease: Lease, first: int, last: int) -> None:
    for i in range(first, last):
        assert await broker.append(lease, i, CHUNKS[i], 1) is Held.YES


async def finish(broker: Broker, lease: Lease, index: int) -> None:
    assert await broker.finish(lease, index, None, 0, Outcome.STOP, "", Usage(1, 0, index)) is Held.YES


async def read_all(reader: Reader) -> list[bytes]:
    """All chunks until the end; each batch begins where the one before ended."""
    chunks: list[bytes] = []
    while True:
        batch = await reader.read()
        assert batch.index == len(chunks)
        chunks += batch.chunks
        if batch.ending:
            assert batch.ending.next_index == len(chunks)
            return chunks


async def test_a_reader_that_keeps_up(broker: Broker, relay: Relay) -> None:
    reader = relay.open(REF)
    lease = await submitted(broker)
    reading = asyncio.create_task(read_all(reader))
    await write(broker, lease, 0, 100)
    await finish(broker, lease, 100)
    assert await reading == CHUNKS


async def test_a_slow_reader_gets_the_rest_from_the_log(broker: Broker, relay: Relay) -> None:
    reader = relay.open(REF)
    lease = await submitted(broker)
    await write(broker, lease, 0, 50)
    batch = await reader.read()
    assert 1 <= len(batch.chunks) < 50  # about a buffer's worth
    await write(broker, lease, 50, 100)
    await finish(broker, lease, 100)
    chunks = list(batch.chunks)
    while True:
        batch = await reader.read()
        assert batch.index == len(chunks)
        chunks += batch.chunks
        if batch.ending:
            break
    assert chunks == CHUNKS


async def test_two_readers_of_one_request_have_their_own_pace(broker: Broker, relay: Relay) -> None:
    first, second = relay.open(REF), relay.open(REF)
    lease = await submitted(broker)
    reading = asyncio.create_task(read_all(first))
    await write(broker, lease, 0, 100)
    await finish(broker, lease, 100)
    assert await reading == CHUNKS
    assert await read_all(second) == CHUNKS
    assert not relay.close(first)
    assert relay.close(second)
    assert not relay.readers


async def test_an_inbox_that_was_lost_is_made_up_for(broker: Broker, relay: Relay, shared_server: LocalServer) -> None:
    reader = relay.open(REF)
    lease = await submitted(broker)
    await write(broker, lease, 0, 5)
    reading = asyncio.create_task(read_all(reader))
    # The stream vanishes, as when it expired while this process was frozen.
    async with Broker(broker.options) as operator:
        await operator._shards[0].command("DEL", "bl:{0}:in:router-a")  # pyright: ignore[reportPrivateUsage]
    await write(broker, lease, 5, 100)
    await finish(broker, lease, 100)
    assert await reading == CHUNKS


async def test_draining_ends_readers_with_unavailable(broker: Broker, relay: Relay) -> None:
    reader = relay.open(REF)
    await submitted(broker)
    reading = asyncio.create_task(read_all(reader))
    relay.drain()
    with pytest.raises(Fault) as fault:
        await reading
    assert fault.value.reason == "ROUTER_DRAINING"


async def test_a_request_that_the_server_forgot_is_not_found(broker: Broker, relay: Relay) -> None:
    reader = relay.open(REF)
    await submitted(broker)
    async with Broker(broker.options) as operator:
        await operator._shards[0].command("FLUSHALL")  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(Fault) as fault:
        await read_all(reader)
    assert fault.value.reason == "REQUEST_NOT_FOUND"


async def test_a_pause_ends_as_soon_as_nothing_more_comes(broker: Broker, relay: Relay) -> None:
    lease = await submitted(broker)
    reader = relay.open(REF)
    await broker.append(lease, 0, CHUNKS[0], 1)
    assert (await reader.read()).chunks == (CHUNKS[0],)
    pausing = asyncio.create_task(reader.pause(60))
    await broker.append(lease, 1, CHUNKS[1], 1)
    await asyncio.sleep(0.1)
    assert not pausing.done()  # more is to gather
    await broker.finish(lease, 2, CHUNKS[2], 1, Outcome.STOP, "", Usage(1, 0, 3))
    await asyncio.wait_for(pausing, 5)
    await asyncio.wait_for(reader.pause(60), 5)
    assert (await reader.read()).chunks == (CHUNKS[1], CHUNKS[2])
    reader.drain()


async def test_a_pause_without_an_end_ends_by_itself(relay: Relay) -> None:
    await asyncio.wait_for(relay.open(REF).pause(0.01), 5)


async def test_a_log_that_lost_what_was_read_ends_the_stream_in_plain_words(broker: Broker, relay: Relay) -> None:
    """As after a crash of a server that had not written its last second."""
    reader = relay.open(REF)
    lease = await submitted(broker)
    await write(broker, lease, 0, 3)
    while reader.next_index < 3:
        await reader.read()
    await broker._shards[0].command("LTRIM", "bl:{0}:log:acme/r1", 0, 1)  # pyright: ignore[reportPrivateUsage]
    reader.mark_stale()
    with pytest.raises(Fault) as caught:
        await asyncio.wait_for(reader.read(), 5)
    assert (caught.value.code.name, caught.value.reason) == ("ABORTED", "REPLY_LOST")
