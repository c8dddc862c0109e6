"""Servers that restart: a call that can be sent to nobody waits for the first that is back, and that is no attempt."""

import asyncio

import pytest

from bitlane import Aborted, AsyncClient, ConnectionFailed, DeadlineExceeded, RetryPolicy
from bitlane.testing import FakeServer
from tests.contract.sdk.conftest import FAST

# What FAST allows is over long before.
AWAY_S = 1.0


async def test_calls_wait_for_the_only_server(server: FakeServer):
    """More of them than the budget has retries."""
    async with AsyncClient(server.target, retry=FAST, timeout=20) as client:
        await client.generate("Hi", model="fake")
        await server.stop()
        waiting = [asyncio.create_task(client.generate("Hi", model="fake")) for _ in range(30)]
        waiting += [asyncio.create_task(client.stream("Hi", model="fake").result()) for _ in range(30)]
        await asyncio.sleep(AWAY_S)
        await server.start()
        assert {(await each).text for each in waiting} == {"Hello, world!"}
    assert len(server.calls) == 61


async def test_two_servers_restart_one_after_the_other(server: FakeServer):
    """When the second one stops, the first is there again, and the client's connection to it is not."""
    async with server.twin() as twin, AsyncClient([server.target, twin.target], retry=FAST, timeout=20) as client:
        await client.list_models()
        for each in (server, twin, server, twin):
            await each.stop()
            calls = await asyncio.gather(*(client.list_models() for _ in range(30)))
            assert all(calls)
            await each.start()


async def test_the_wait_ends(server: FakeServer):
    policy = RetryPolicy(initial_backoff=0.001, max_backoff=0.01, connect_window=0.2)
    async with AsyncClient(server.target, retry=policy) as client:
        await client.list_models()
        await server.stop()
        for _ in range(2):  # the second one does not wait again
            with pytest.raises(ConnectionFailed):
                await client.list_models()


async def test_the_deadline_ends_the_wait(server: FakeServer):
    async with AsyncClient(server.target, retry=FAST, timeout=0.3) as client:
        await client.generate("Hi", model="fake", timeout=20)
        await server.stop()
        with pytest.raises((DeadlineExceeded, ConnectionFailed)):
            await client.generate("Hi", model="fake")


async def test_who_waits_is_told_that_the_client_was_closed(server: FakeServer):
    client = AsyncClient(server.target, retry=FAST)
    await client.list_models()
    await server.stop()
    waiting = [asyncio.create_task(client.generate("Hi", model="fake")), asyncio.create_task(client.list_models())]
    await asyncio.sleep(AWAY_S)
    await client.close()
    for each in waiting:
        with pytest.raises(Aborted, match="closed"):
            await each


async def test_a_stream_that_was_closed_while_it_waited_is_not_sent(server: FakeServer):
    async with AsyncClient(server.target, retry=FAST) as client:
        await client.list_models()
        await server.stop()
        stream = client.stream("Hi", model="fake")
        reading = asyncio.create_task(stream.next_delta())
        await asyncio.sleep(AWAY_S)
        await stream.close()
        await server.start()
        assert await reading is None
        await client.list_models()
    assert server.calls_of("Generate") == []
