"""Attempts before the first event: how many, after what wait, and never a second run."""

import asyncio
import time

import pytest

from bitlane import AsyncClient, ConnectionFailed, QuotaExceeded, RetryPolicy, Unavailable, Violation
from bitlane.testing import FakeServer, Fault, Reply

FAST = RetryPolicy(initial_backoff=0.001, max_backoff=0.01)


async def test_unavailable_before_the_first_event_is_retried_under_one_id(server: FakeServer, client: AsyncClient):
    server.inject(Fault.unavailable(times=3))
    assert (await client.generate("Hi", model="fake")).text == "Hello, world!"
    assert [call.method for call in server.calls] == ["Generate"] * 4
    assert len({call.request_id for call in server.calls}) == 1
    assert server.runs == 1


async def test_a_retry_joins_what_is_already_running(server: FakeServer, client: AsyncClient):
    """The connection broke after the server had stored the request and before it could say so."""
    server.inject(Fault.drop(after=0))
    stream = client.stream("Hi", model="fake", request_id="r")
    server.script(Reply(["once"]))
    assert (await stream.result()).text == "once"
    assert (await client.generate("Hi", model="fake", request_id="r")).text == "once"
    assert server.runs == 1


async def test_attempts_end(server: FakeServer, client: AsyncClient):
    server.inject(Fault.unavailable(times=100))
    with pytest.raises(Unavailable, match="no live worker") as caught:
        await client.generate("Hi", model="fake")
    assert caught.value.reason == "POOL_UNAVAILABLE"
    assert len(server.calls) == 5


async def test_calls_that_do_not_stream_are_retried_too(server: FakeServer, client: AsyncClient):
    server.inject(Fault.drop(times=2))
    assert await client.list_models()
    assert len(server.calls) == 3


async def test_policy_none_tries_once(server: FakeServer):
    server.inject(Fault.unavailable(times=9))
    async with AsyncClient(server.target, retry=RetryPolicy.none()) as client:
        for attempt in (client.generate("Hi", model="fake"), client.list_models()):
            with pytest.raises(Unavailable):
                await attempt
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    "fault", [Fault("UNAVAILABLE", reason="X", pushback_ms="300"), Fault("UNAVAILABLE", reason="X", retry_after=0.3)]
)
async def test_the_server_s_wait_is_kept(server: FakeServer, client: AsyncClient, fault: Fault):
    fault.times = 1
    server.inject(fault)
    began = time.monotonic()
    await client.generate("Hi", model="fake")
    assert time.monotonic() - began >= 0.3
    assert len(server.calls) == 2


async def test_a_negative_pushback_forbids_a_retry(server: FakeServer, client: AsyncClient):
    server.inject(Fault("UNAVAILABLE", "go away", reason="X", pushback_ms="-1"))
    with pytest.raises(Unavailable) as caught:
        await client.generate("Hi", model="fake")
    assert caught.value.final
    assert len(server.calls) == 1


async def test_quota_is_retried_when_the_wait_fits(server: FakeServer, client: AsyncClient):
    server.inject(Fault("RESOURCE_EXHAUSTED", "too fast", reason="QUOTA_REQUESTS", retry_after=0.05))
    assert (await client.generate("Hi", model="fake")).text == "Hello, world!"
    assert len(server.calls) == 2


async def test_quota_is_raised_at_once_when_the_wait_does_not_fit_the_deadline(server: FakeServer, client: AsyncClient):
    server.inject(Fault("RESOURCE_EXHAUSTED", "too fast", reason="QUOTA_REQUESTS", retry_after=8))
    began = time.monotonic()
    with pytest.raises(QuotaExceeded) as caught:
        await client.generate("Hi", model="fake", timeout=5)
    assert time.monotonic() - began < 4
    assert caught.value.retry_after == 8
    assert len(server.calls) == 1


async def test_quota_without_a_wait_is_not_retried(server: FakeServer, client: AsyncClient):
    server.inject(Fault("RESOURCE_EXHAUSTED", "the budget is spent", reason="QUOTA_BUDGET"))
    with pytest.raises(QuotaExceeded):
        await client.generate("Hi", model="fake")
    assert len(server.calls) == 1


async def test_a_quota_s_pushback_is_kept_and_its_ban_too(server: FakeServer, client: AsyncClient):
    """A router sends the same wait twice, as RetryInfo and as pushback; -1 with what can never fit."""
    quota = [Violation("tenant:acme/key:ci", "60 requests a minute")]
    wait = Fault(
        "RESOURCE_EXHAUSTED", "slow down", "QUOTA_REQUESTS", violations=quota, retry_after=0.2, pushback_ms="200"
    )
    server.inject(wait)
    began = time.monotonic()
    assert (await client.generate("Hi", model="fake")).text == "Hello, world!"
    assert time.monotonic() - began >= 0.2
    assert len(server.calls) == 2
    server.inject(Fault("RESOURCE_EXHAUSTED", "never fits", "QUOTA_TOKENS", violations=quota, pushback_ms="-1"))
    with pytest.raises(QuotaExceeded) as caught:
        await client.generate("Hi", model="fake")
    assert (caught.value.reason, caught.value.retry_after, caught.value.final) == ("QUOTA_TOKENS", None, True)
    assert [each.field for each in caught.value.violations] == ["tenant:acme/key:ci"]
    assert len(server.calls) == 3


async def test_under_total_failure_attempts_stay_within_a_fifth_more(server: FakeServer, client: AsyncClient):
    server.inject(Fault.unavailable(times=100_000))
    offered = 200
    outcomes = await asyncio.gather(
        *(client.generate("Hi", model="fake") for _ in range(offered)), return_exceptions=True
    )
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert offered <= len(server.calls) <= 1.2 * offered


@pytest.mark.parametrize("streams", [True, False])
async def test_calls_that_one_break_met_are_all_made_again(server: FakeServer, client: AsyncClient, streams: bool):
    """More of them than the budget has retries."""
    await client.list_models()
    server.inject(Fault.drop(times=50))
    calls = [client.generate("Hi", model="fake") if streams else client.list_models() for _ in range(50)]
    assert all(await asyncio.gather(*calls))
    assert len(server.calls) == 101


async def test_connections_that_always_break_are_given_up(server: FakeServer, client: AsyncClient):
    await client.list_models()
    server.inject(Fault.drop(times=100_000))
    offered = 200
    outcomes = await asyncio.gather(
        *(client.generate("Hi", model="fake") for _ in range(offered)), return_exceptions=True
    )
    assert all(isinstance(outcome, ConnectionFailed) for outcome in outcomes)
    assert len(server.calls) <= 1 + 2 * offered + 10


async def test_the_budget_comes_back_with_successes(server: FakeServer):
    policy = RetryPolicy(initial_backoff=0.001, max_backoff=0.01, budget=1)
    async with AsyncClient(server.target, retry=policy) as client:
        server.inject(Fault.unavailable(times=2))
        with pytest.raises(Unavailable):
            await client.generate("Hi", model="fake")
        assert len(server.calls) == 2
        for _ in range(5):
            await client.generate("Hi", model="fake")
        server.inject(Fault.unavailable())
        await client.generate("Hi", model="fake")
        assert len(server.calls) == 9


async def test_the_next_target_takes_over(server: FakeServer):
    async with FakeServer() as gone:
        target = gone.target
    async with AsyncClient([target, server.target], retry=FAST) as client:
        assert (await client.generate("Hi", model="fake")).text == "Hello, world!"
        assert len(await client.list_models()) == 1
    assert [call.method for call in server.calls] == ["Generate", "ListModels"], "it stays with the one that works"


async def test_all_targets_gone():
    async with FakeServer() as one, FakeServer() as two:
        targets = [one.target, two.target]
    async with AsyncClient(targets, retry=FAST) as client:
        with pytest.raises(ConnectionFailed):
            await client.list_models()


async def test_a_server_that_comes_back_is_found_again(server: FakeServer):
    """gRPC's own wait between connections (1 s and more by default) must not outlast the SDK's patience."""
    policy = RetryPolicy(initial_backoff=0.2, max_backoff=0.5, max_attempts=20, budget=20)
    async with AsyncClient(server.target, retry=policy) as client:
        await client.list_models()
        await server.stop()
        waiting = asyncio.create_task(client.list_models())
        await asyncio.sleep(0.1)
        await server.start()
        began = time.monotonic()
        assert await waiting
        assert time.monotonic() - began < 10
