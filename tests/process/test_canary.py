"""Prompts and keys are told to nobody: not in a log, an error, or the store after the request's end."""

import hashlib
from pathlib import Path

import pytest
from grpc import aio

import bitlane
from broker import Broker, BrokerOptions
from tests.contract.broker.keyspace import all_bytes
from tests.process.conftest import StackMaker
from tests.process.tenants import seeded

pytestmark = pytest.mark.timeout(120)

PROMPT = "canary-7f3a-in-the-prompt"
KEY = "bl_canary-91c4-is-the-key"
WRONG_KEY = "bl_canary-55e0-is-wrong"
DEBUG = {"BITLANE_ROUTER_LOG_LEVEL": "DEBUG"}


async def fails(call: object) -> bitlane.BitlaneError:
    with pytest.raises(bitlane.BitlaneError) as caught:
        await call  # type: ignore[misc]  # any of the client's calls
    return caught.value


def told(error: bitlane.BitlaneError) -> str:
    return f"{error!r} {error} {vars(error)}"


async def test_prompts_and_keys_are_told_to_nobody(make_stack: StackMaker, tmp_path: Path) -> None:
    keys = [{"name": "canary", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]
    config = seeded(tmp_path, {"canary": {"keys": keys}})
    stack = make_stack(
        engine_options='{"token_ms": 1, "fail_on": "engine-fails", "context_tokens": 600}',
        worker_env={"BITLANE_WORKER_LOG_LEVEL": "DEBUG"},
        config=config,
    )
    target = stack.target_of(stack.add_router(env=DEBUG))
    errors: list[bitlane.BitlaneError] = []
    none = bitlane.RetryPolicy.none()
    async with (
        bitlane.AsyncClient(target, api_key=KEY, retry=none) as client,
        bitlane.AsyncClient(target, api_key=WRONG_KEY, retry=none) as stranger,
    ):
        completion = await client.generate(f"Hello {PROMPT}", model="smollm2", max_tokens=5)
        assert completion.usage.output_tokens == 5
        await client.generate(
            messages=[{"role": "user", "content": f"What is {PROMPT}?"}], model="smollm2", max_tokens=5
        )
        explained = await client.explain(f"Prove {PROMPT}", model="smollm2")
        assert PROMPT not in str(explained)
        stream = client.stream(PROMPT, model="smollm2", max_tokens=400)
        await anext(stream)
        await client.cancel(stream.request_id)
        errors += [
            await fails(stranger.generate(PROMPT, model="smollm2", max_tokens=5)),
            await fails(client.generate(PROMPT, model="smollm2", max_tokens=-1)),
            await fails(client.generate(PROMPT, model="no-such-model")),
            await fails(client.generate(PROMPT, json_schema=f"{{{PROMPT}", model="smollm2", max_tokens=5)),
            await fails(client.generate(f"{PROMPT}\x00", model="smollm2", max_tokens=5)),
            # The worker refuses it: too long for the engine, by the words.
            await fails(client.generate(f"{PROMPT} " * 700, model="smollm2", max_tokens=1)),
            await fails(client.generate(f"{PROMPT} engine-fails", pin="fp8", model="smollm2", max_tokens=5)),
        ]
        async with aio.insecure_channel(target) as channel:
            raw: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/bitlane.v1.InferenceService/Complete"
            )
            with pytest.raises(aio.AioRpcError) as caught:
                await raw(PROMPT.encode(), metadata=(("authorization", f"Bearer {KEY}"),))
            assert PROMPT not in str(caught.value)
    for error in errors:
        assert PROMPT not in told(error)
        assert KEY not in told(error)
        assert WRONG_KEY not in told(error)

    async with Broker(BrokerOptions(url=stack.server.url)) as broker:
        letters = [letter.ref for letter in (await broker.dead_letters()).items]
        assert len(letters) == 1  # the one that failed on every attempt: it keeps its prompt for a replay
        assert await broker.purge(letters[0])
        stored = await all_bytes(broker)
    for secret in (PROMPT, KEY, WRONG_KEY):
        assert secret.encode() not in stored, f"{secret} is in the store"

    logs = {path.name: path.read_text(errors="replace") for path in stack.folder.rglob("*.log")}
    assert len(logs) >= 4
    for name, text in logs.items():
        for secret in (PROMPT, KEY, WRONG_KEY):
            assert secret not in text, f"{secret} is in {name}"
