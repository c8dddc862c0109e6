"""SIGKILL, SIGSTOP and SIGTERM of workers, routers and the server: each token reaches the client exactly once."""

import asyncio
import os
import random
import signal
import time

import pytest

import bitlane
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME, expected_text, expected_tokens

pytestmark = pytest.mark.timeout(120)

TOKENS = 80
FP8 = "smollm2/fp8"


def client_of(stack: Stack, *targets: str) -> bitlane.AsyncClient:
    return bitlane.AsyncClient(targets or stack.target, api_key=ACME, timeout=60)


async def read_until(stream: bitlane.AsyncStream, tokens: int) -> None:
    """Reads deltas until so many tokens came."""
    seen = 0
    while seen < tokens:
        seen += len((await anext(stream)).token_ids)


def assert_exactly_once(prompt: str, completion: bitlane.Completion, tokens: int = TOKENS) -> None:
    assert completion.token_ids == expected_tokens(prompt, tokens)
    assert completion.text == expected_text(prompt, tokens)
    assert completion.usage.output_tokens == tokens


async def test_a_worker_dies_in_mid_stream(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}')
    async with client_of(stack) as client:
        for attempt in range(4):
            prompts = [f"die {attempt} {i}" for i in range(6)]
            streams = [client.stream(prompt, model="smollm2", pin="fp8", max_tokens=TOKENS) for prompt in prompts]
            at = random.randrange(1, TOKENS - 20)
            await asyncio.gather(*(read_until(stream, at) for stream in streams))
            victim = stack.workers[FP8][-1]
            stack.add_worker(FP8)
            victim.kill()
            for prompt, stream in zip(prompts, streams, strict=True):
                completion = await stream.result()
                assert_exactly_once(prompt, completion)
                assert completion.receipt.attempts == 2


async def test_a_worker_dies_before_the_first_token(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"first_token_ms": 300, "token_ms": 1}')
    async with client_of(stack) as client:
        stream = client.stream("early", model="smollm2", pin="fp8", max_tokens=TOKENS)
        await stream.accepted()
        stack.add_worker(FP8)
        stack.workers[FP8][0].kill()
        assert_exactly_once("early", await stream.result())


async def test_a_frozen_worker_cannot_write_when_it_wakes(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}')
    async with client_of(stack) as client:
        stream = client.stream("zombie", model="smollm2", pin="fp8", max_tokens=400)
        await read_until(stream, 10)
        zombie = stack.workers[FP8][0]
        os.kill(zombie.pid, signal.SIGSTOP)
        stack.add_worker(FP8)
        await read_until(stream, 100)
        os.kill(zombie.pid, signal.SIGCONT)
        completion = await stream.result()
        assert_exactly_once("zombie", completion, 400)
        # It has found out, and works on.
        replies = [client.generate(f"after {i}", model="smollm2", pin="fp8", max_tokens=5) for i in range(20)]
        for i, reply in enumerate(await asyncio.gather(*replies)):
            assert reply.token_ids == expected_tokens(f"after {i}", 5)


async def test_a_stopping_worker_hands_back_what_it_cannot_finish(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 5}', lease_ms=30_000, worker_env={"BITLANE_WORKER_DRAIN_S": "0.5"})
    async with client_of(stack) as client:
        short = client.stream("short", model="smollm2", pin="fp8", max_tokens=40)
        long = client.stream("long", model="smollm2", pin="fp8", max_tokens=600)
        await asyncio.gather(read_until(short, 5), read_until(long, 5))
        worker = stack.workers[FP8][0]
        stack.add_worker(FP8)
        worker.terminate()
        # The lease would hold for 30 s: only handing back makes the next worker go on at once.
        assert_exactly_once("short", await short.result(), 40)
        assert_exactly_once("long", await long.result(), 600)
        assert worker.wait(20) == 0


async def test_a_handed_back_request_counts_no_attempt(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 5}', lease_ms=30_000, worker_env={"BITLANE_WORKER_DRAIN_S": "0"})
    async with client_of(stack) as client:
        stream = client.stream("handed on", model="smollm2", pin="fp8", max_tokens=500)
        await read_until(stream, 5)
        # More hand-overs than attempts that may fail.
        for _ in range(5):
            leaving = stack.workers[FP8][-1]
            stack.add_worker(FP8)
            stack.wait_for_worker(FP8)
            leaving.terminate()
            assert leaving.wait(20) == 0
            await read_until(stream, 20)
        assert_exactly_once("handed on", await stream.result(), 500)


async def test_a_poisonous_prompt_goes_aside_after_three_workers_got_no_further(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"kill_on": "poison", "token_ms": 20}')
    async with client_of(stack) as client:
        stream = client.stream("poison", model="smollm2", pin="fp8", max_tokens=TOKENS)
        await stream.accepted()
        ended = asyncio.ensure_future(stream.result())
        deaths = 0
        while not ended.done():
            if stack.workers[FP8][-1].returncode is not None:
                deaths += 1
                stack.add_worker(FP8)
            await asyncio.sleep(0.02)
        with pytest.raises(bitlane.Aborted) as aborted:
            await ended
        assert aborted.value.reason == "ATTEMPTS_EXHAUSTED"
        # Each of the three tokens before the deadly one may reach the log in an attempt of its own: on a machine that
        # takes longer to log a token than to make the next.
        assert 3 <= deaths <= 3 + 3
        stack.wait_for_worker(FP8)
        assert stack.workers[FP8][-1].returncode is None
        # Tokens 0 to 2 of the poisoned reply came once.
        assert stream.text == expected_text("poison", 3)


async def test_an_engine_error_is_tried_elsewhere_and_never_told(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"fail_on": "trouble"}')
    async with client_of(stack) as client:
        with pytest.raises(bitlane.Aborted) as aborted:
            await client.generate("trouble", model="smollm2", pin="fp8", max_tokens=TOKENS)
        assert "scripted failure" not in str(aborted.value)
        assert (await client.generate("fine", model="smollm2", pin="fp8", max_tokens=5)).usage.output_tokens == 5


async def test_guided_decoding_is_not_spliced(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}')
    async with client_of(stack) as client:
        stream = client.stream("guided", model="smollm2", pin="fp8", max_tokens=TOKENS, regex="[a-z]+")
        await read_until(stream, 5)
        stack.add_worker(FP8)
        stack.workers[FP8][0].kill()
        with pytest.raises(bitlane.Aborted) as aborted:
            await stream.result()
        assert aborted.value.reason == "NOT_MIGRATABLE"


async def test_a_router_dies_and_the_client_resumes_at_another(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}')
    for attempt in range(3):
        second = stack.target_of(stack.add_router())
        async with client_of(stack, stack.target_of(stack.routers[-2]), second) as client:
            prompts = [f"router {attempt} {i}" for i in range(6)]
            streams = [client.stream(prompt, model="smollm2", pin="fp8", max_tokens=300) for prompt in prompts]
            await asyncio.gather(*(read_until(stream, random.randrange(1, 100)) for stream in streams))
            stack.routers[-2].kill()
            for prompt, stream in zip(prompts, streams, strict=True):
                completion = await stream.result()
                assert_exactly_once(prompt, completion, 300)
                assert completion.receipt.attempts == 1


async def test_a_stopping_router_sends_its_streams_elsewhere(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}')
    leaving = stack.add_router(env={"BITLANE_ROUTER_DRAIN_S": "0.2"})
    async with client_of(stack, stack.target_of(leaving), stack.target) as client:
        streams = [client.stream(f"leave {i}", model="smollm2", pin="fp8", max_tokens=300) for i in range(6)]
        await asyncio.gather(*(read_until(stream, 20) for stream in streams))
        leaving.terminate()
        for i, stream in enumerate(streams):
            assert_exactly_once(f"leave {i}", await stream.result(), 300)
        assert leaving.wait(20) == 0


async def test_the_server_dies_and_comes_back(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}', durable=True, lease_ms=3000)
    async with client_of(stack) as client:
        stream = client.stream("survivor", model="smollm2", pin="fp8", max_tokens=600)
        await read_until(stream, 100)
        await asyncio.sleep(1.1)  # appendfsync everysec: what is acknowledged is on disk within a second
        stack.server.kill()
        began = time.monotonic()
        with pytest.raises(bitlane.Unavailable) as away:
            await _once(stack).generate("while away", model="smollm2", pin="fp8", max_tokens=5)
        assert time.monotonic() - began < 2.0  # 1 s is promised; the rest is this machine's noise
        assert away.value.reason == "BROKER_UNAVAILABLE"
        stack.server.start()
        assert_exactly_once("survivor", await stream.result(), 600)
        reply = await client.generate("afterwards", model="smollm2", pin="fp8", max_tokens=5)
        assert reply.token_ids == expected_tokens("afterwards", 5)


def _once(stack: Stack) -> bitlane.AsyncClient:
    """A client that does not try again."""
    return bitlane.AsyncClient(stack.target, api_key=ACME, retry=bitlane.RetryPolicy(max_attempts=1), timeout=10)


async def test_a_dead_pool_spills_up_and_never_down(make_stack: StackMaker) -> None:
    stack = make_stack()
    async with client_of(stack) as client, _once(stack) as impatient:
        stack.workers["smollm2/fp4"][0].terminate()
        stack.workers["smollm2/fp4"][0].wait(20)
        # The router's view of the pools is a fraction of a second old: what it queues for a dead one meanwhile waits.
        while (await client.explain("hi", model="smollm2", task="chat")).decision.reason.value != "spill":
            await asyncio.sleep(0.02)
        spilled = await client.generate("hi", model="smollm2", task="chat", max_tokens=3)
        assert (spilled.precision.value, spilled.decision.reason.value) == ("fp8", "spill")
        with pytest.raises(bitlane.Unavailable) as unavailable:
            await impatient.generate("hi", model="smollm2", pin="fp4", max_tokens=3)
        assert unavailable.value.reason == "POOL_UNAVAILABLE"
        stack.workers[FP8][0].kill()

        async def refused() -> bool:
            try:
                await impatient.explain("2 + 2", model="smollm2", task="math")
            except bitlane.Unavailable:
                return True
            return False

        while not await refused():
            await asyncio.sleep(0.05)
