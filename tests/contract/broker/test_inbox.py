"""A router sees everything once and in order, or is told that it may have missed something."""

import asyncio
from dataclasses import replace

import pytest

from broker import Broker, BrokerOptions, keys
from broker.types import BrokerError, ChunkEvent, EndEvent, Gap, Held, Outcome
from deploy.local.server import LocalServer
from tests.contract.broker.keyspace import read_keyspace
from tests.contract.broker.requests import USAGE, claim_one, make_submission


async def test_chunks_and_the_end_arrive_in_order(broker: Broker) -> None:
    async with broker.inbox("router-1") as inbox:
        assert await anext(inbox) == Gap(0)
        await broker.submit(make_submission())
        claim = await claim_one(broker)
        for index in range(200):
            await broker.append(claim.lease, index, b"%d" % index, 1)
        await broker.finish(claim.lease, 200, b"200", 1, Outcome.STOP, "", USAGE)
        events: list[ChunkEvent | EndEvent] = []
        while len(events) < 202:
            batch = await anext(inbox)
            assert not isinstance(batch, Gap)
            events += batch
        end = events.pop()
        assert isinstance(end, EndEvent)
        assert end.ending == (await broker.read_log(claim.lease.ref, 0)).ending
        assert events == [ChunkEvent(claim.lease.ref, index, b"%d" % index) for index in range(201)]


async def test_every_owner_gets_every_chunk(broker: Broker) -> None:
    async with broker.inbox("router-1") as first, broker.inbox("router-2") as second:
        assert [await anext(first), await anext(second)] == [Gap(0), Gap(0)]
        await broker.submit(make_submission())
        claim = await claim_one(broker)
        await broker.attach(claim.lease.ref, "router-2", 0)
        await broker.append(claim.lease, 0, b"one", 1)
        assert await anext(first) == await anext(second) == [ChunkEvent(claim.lease.ref, 0, b"one")]


async def test_an_inbox_that_nobody_reads_stays_bounded(broker: Broker) -> None:
    async with Broker(replace(broker.options, inbox_max=200)) as small:
        async with small.inbox("router-1"):
            pass
        await small.submit(make_submission())
        claim = await claim_one(small)
        for start in range(0, 2000, 400):
            await asyncio.gather(*(small.append(claim.lease, start + n, b"x", 1) for n in range(400)))
        assert 200 <= len((await read_keyspace(small)).streams["in:router-1"]) < 400


async def test_entries_trimmed_before_they_were_read_are_a_gap(broker: Broker) -> None:
    async with broker.inbox("router-1") as inbox:
        assert await anext(inbox) == Gap(0)
        await broker.submit(make_submission())
        claim = await claim_one(broker)
        await broker.append(claim.lease, 0, b"one", 1)
        assert await anext(inbox) == [ChunkEvent(claim.lease.ref, 0, b"one")]
        # In one transaction, so that the reader cannot be between: two more entries, the first of them trimmed away.
        add = "redis.call('XADD', KEYS[1], '0-*', 'chunk', 'acme/r1', 'i', '%d', 'c', 'x')"
        trim = "redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)"
        script = "\n".join((add % 1, add % 2, trim))
        await broker._shards[0].command("EVAL", script, 1, keys.inbox(0, "router-1"))  # pyright: ignore[reportPrivateUsage]
        assert await anext(inbox) == Gap(0)
        assert await anext(inbox) == [ChunkEvent(claim.lease.ref, 2, b"x")]


async def test_an_inbox_that_vanished_is_made_anew_with_a_gap(broker: Broker) -> None:
    async with Broker(replace(broker.options, inbox_ttl_ms=300)) as hasty, hasty.inbox("router-1") as inbox:
        assert await anext(inbox) == Gap(0)
        await hasty._shards[0].command("DEL", keys.inbox(0, "router-1"))  # pyright: ignore[reportPrivateUsage]
        assert await asyncio.wait_for(anext(inbox), 2) == Gap(0)
        await hasty.submit(make_submission())
        claim = await claim_one(hasty)
        await hasty.append(claim.lease, 0, b"one", 1)
        assert await anext(inbox) == [ChunkEvent(claim.lease.ref, 0, b"one")]


async def test_an_inbox_lives_as_long_as_it_is_read_and_is_not_made_again_by_others(broker: Broker) -> None:
    async with Broker(replace(broker.options, inbox_ttl_ms=150)) as hasty:
        async with hasty.inbox("router-1"):
            await asyncio.sleep(0.4)
            assert "in:router-1" in (await read_keyspace(hasty)).streams
        await asyncio.sleep(0.3)
        await hasty.submit(make_submission())
        claim = await claim_one(hasty)
        await hasty.append(claim.lease, 0, b"one", 1)
        await hasty.finish(claim.lease, 1, b"two", 1, Outcome.STOP, "", USAGE)
        assert (await read_keyspace(hasty)).streams == {}


async def test_an_error_that_waiting_will_not_cure_reaches_the_reader(broker: Broker) -> None:
    async with broker.inbox("router-1") as inbox:
        await anext(inbox)
        await broker._shards[0].command("SET", keys.inbox(0, "router-1"), "no stream")  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(BrokerError, match="WRONGTYPE"):
            await asyncio.wait_for(anext(inbox), 5)


async def test_what_was_read_is_trimmed(broker: Broker) -> None:
    async with Broker(replace(broker.options, inbox_ttl_ms=300)) as hasty, hasty.inbox("router-1") as inbox:
        await anext(inbox)
        await hasty.submit(make_submission())
        claim = await claim_one(hasty)
        for index in range(50):
            await hasty.append(claim.lease, index, b"x", 1)
        await asyncio.sleep(0.4)
        assert len((await read_keyspace(hasty)).streams["in:router-1"]) == 1


async def test_a_restart_with_its_data_loses_nothing_and_without_them_shows_a_gap(own_server: LocalServer) -> None:
    options = BrokerOptions(url=own_server.url)
    async with Broker(options) as broker, broker.inbox("router-1") as inbox:
        assert await anext(inbox) == Gap(0)
        await broker.submit(make_submission())
        claim = await claim_one(broker)
        await broker.append(claim.lease, 0, b"one", 1)
        assert await anext(inbox) == [ChunkEvent(claim.lease.ref, 0, b"one")]
        await asyncio.sleep(1.1)  # appendfsync everysec
        own_server.kill()
        own_server.start()
        await asyncio.sleep(0.01)  # the connection's end is seen in the next turn of the loop
        assert await broker.append(claim.lease, 1, b"two", 1) is Held.YES
        assert await asyncio.wait_for(anext(inbox), 3) == [ChunkEvent(claim.lease.ref, 1, b"two")]
        own_server.kill()
        own_server.discard_data()
        own_server.start()
        assert await asyncio.wait_for(anext(inbox), 3) == Gap(0)


async def test_a_server_that_hung_loses_nothing(own_server: LocalServer) -> None:
    async with Broker(BrokerOptions(url=own_server.url, timeout_s=0.2)) as broker, broker.inbox("router-1") as inbox:
        assert await anext(inbox) == Gap(0)
        await broker.submit(make_submission())
        claim = await claim_one(broker)
        own_server.pause()
        await asyncio.sleep(1.5)  # longer than a blocking read waits
        own_server.resume()
        assert await broker.append(claim.lease, 0, b"one", 1) is Held.YES
        assert await asyncio.wait_for(anext(inbox), 3) == [ChunkEvent(claim.lease.ref, 0, b"one")]
