"""A prompt goes in over gRPC, and text streams back from the pool that the rule names."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

import bitlane
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME, GLOBEX, expected_text, expected_tokens


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until it holds; the test's time limit is the bound."""
    while not await condition():
        await asyncio.sleep(0.02)


async def running(client: bitlane.AsyncClient) -> int:
    """Requests that hold a slot, in all pools."""
    return sum(pool.running for model in await client.list_models() for pool in model.pools)


@pytest.mark.parametrize(
    ("task", "precision", "reason"),
    [
        ("chat", "fp4", "low_sensitivity"),
        ("factual_qa", "fp8", "gate_not_passed"),
        ("code", "fp8", "gate_not_passed"),
        ("math", "fp8", "high_sensitivity"),
        ("legal", "fp8", "critical_sensitivity"),
    ],
)
async def test_the_rule_picks_the_pool_and_the_receipt_proves_it(
    acme: bitlane.AsyncClient, task: bitlane.TaskName, precision: str, reason: str
) -> None:
    async with acme.stream("where to?", model="smollm2", task=task, max_tokens=20) as stream:
        accepted = await stream.accepted()
        completion = await stream.result()
    assert completion.token_ids == expected_tokens("where to?", 20)
    assert completion.text == expected_text("where to?", 20)
    assert completion.finish_reason == "length"
    assert completion.usage.output_tokens == 20
    assert accepted.decision == completion.decision
    assert (completion.decision.precision.value, completion.decision.reason.value) == (precision, reason)
    assert completion.decision.pool == f"smollm2/{precision}"
    profile = completion.receipt.profile
    assert profile is not None
    assert (profile.precision.value, profile.engine) == (precision, "scripted")
    assert completion.receipt.attempts == 1


async def test_a_prompt_without_a_hint_is_classified(acme: bitlane.AsyncClient) -> None:
    explained = await acme.explain("What is 17 * 23?", model="smollm2")
    assert explained.decision.task is not None
    assert explained.decision.task.value == "math"
    assert explained.decision.precision.value == "fp8"
    unsure = await acme.explain("Qwertz uiop.", model="smollm2")
    assert unsure.decision.reason.value == "low_confidence"
    assert unsure.decision.precision.value == "fp8"


async def test_tenants_have_policies_of_their_own(stack: Stack, acme: bitlane.AsyncClient) -> None:
    async with bitlane.AsyncClient(stack.target, api_key=GLOBEX) as globex:
        with pytest.raises(bitlane.PermissionDenied) as refused:
            await globex.generate("hi", model="smollm2", pin="fp4")
        assert refused.value.reason == "PRECISION_NOT_ALLOWED"
        assert refused.value.violations[0].field == "precision.pin"
    assert (await acme.generate("hi", model="smollm2", pin="fp4", max_tokens=3)).precision.value == "fp4"


async def test_the_first_token_comes_at_once_and_all_come_once(acme: bitlane.AsyncClient) -> None:
    async with acme.stream("count", model="smollm2", max_tokens=60) as stream:
        indexes = [(delta.index, delta.next_index) async for delta in stream]
        tokens = (await stream.result()).token_ids
    assert tokens == expected_tokens("count", 60)
    assert indexes[0][0] == 0
    assert all(before[1] == after[0] for before, after in pairwise(indexes))


async def test_stop_texts_and_turn_ends(acme: bitlane.AsyncClient) -> None:
    whole = expected_text("stop me", 50)
    stop = whole[100:110]
    stopped = await acme.generate("stop me", model="smollm2", max_tokens=50, stop=[stop])
    assert stopped.text == whole[: whole.index(stop)]
    assert stopped.finish_reason == "stop"
    ended = await acme.generate("to the end", model="smollm2", max_tokens=1000)
    assert (ended.finish_reason, ended.usage.output_tokens) == ("stop", 200)


async def test_the_same_id_joins_and_another_body_conflicts(acme: bitlane.AsyncClient) -> None:
    same = [acme.generate("join", model="smollm2", max_tokens=50, request_id="join-1") for _ in range(20)]
    replies = await asyncio.gather(*same)
    assert {reply.token_ids for reply in replies} == {expected_tokens("join", 50)}
    assert {reply.receipt.attempts for reply in replies} == {1}
    late = await acme.generate("join", model="smollm2", max_tokens=50, request_id="join-1")
    assert late.token_ids == expected_tokens("join", 50)
    with pytest.raises(bitlane.IdConflict):
        await acme.generate("another", model="smollm2", max_tokens=50, request_id="join-1")


async def test_resume_continues_at_every_index(acme: bitlane.AsyncClient) -> None:
    first = await acme.generate("resume", model="smollm2", max_tokens=30, request_id="resume-1")
    async with acme.resume("resume-1", next_index=0) as stream:
        chunks = [delta async for delta in stream]
    whole = sum(len(chunk.token_ids) for chunk in chunks)
    assert whole == 30
    end = chunks[-1].next_index
    for start in range(end + 1):
        async with acme.resume("resume-1", next_index=start) as stream:
            rest = await stream.result()
        assert first.text.endswith(rest.text)
        assert (rest.text == "") == (start == end)
    with pytest.raises(bitlane.InvalidRequest) as beyond:
        await acme.resume("resume-1", next_index=end + 1).result()
    assert beyond.value.violations[0].field == "next_index"


async def test_cancel_ends_the_stream_and_frees_the_slot(acme: bitlane.AsyncClient) -> None:
    async with acme.stream("cancel me", model="smollm2", max_tokens=200, request_id="cancel-1") as stream:
        await anext(stream)
        answer = await acme.cancel("cancel-1")
        assert answer.cancelled
        ended = await stream.result()
    assert ended.finish_reason == "cancelled"
    assert ended.usage.output_tokens == len(ended.token_ids) < 200
    assert ended.token_ids == expected_tokens("cancel me", len(ended.token_ids))
    assert answer.usage == ended.usage
    with pytest.raises(bitlane.NotFound):
        await acme.cancel("no-such-request")


async def test_a_client_that_leaves_ends_its_request(acme: bitlane.AsyncClient) -> None:
    stream = acme.stream("leave", model="smollm2", max_tokens=200, request_id="leave-1")
    await anext(stream)
    await stream.close()

    async def ended() -> bool:
        return (await acme.cancel("leave-1")).reason == "cancelled"

    await eventually(ended)

    async def idle() -> bool:
        return await running(acme) == 0

    await eventually(idle)


async def test_a_deadline_ends_the_request(acme: bitlane.AsyncClient) -> None:
    with pytest.raises(bitlane.DeadlineExceeded):
        await acme.generate("too long", model="smollm2", max_tokens=200, timeout=0.2, request_id="late-1")

    async def idle() -> bool:
        return await running(acme) == 0

    await eventually(idle)


async def test_another_tenants_request_is_not_found(stack: Stack, acme: bitlane.AsyncClient) -> None:
    await acme.generate("secret", model="smollm2", max_tokens=3, request_id="mine-1")
    async with bitlane.AsyncClient(stack.target, api_key=GLOBEX) as globex:
        with pytest.raises(bitlane.NotFound) as theirs:
            await globex.resume("mine-1", next_index=0).result()
        with pytest.raises(bitlane.NotFound) as nobodys:
            await globex.resume("mine-2", next_index=0).result()
        assert str(theirs.value).replace("mine-1", "mine-2") == str(nobodys.value)
        with pytest.raises(bitlane.NotFound):
            await globex.cancel("mine-1")
        # The id is free for the other tenant.
        own = await globex.generate("other", model="smollm2", max_tokens=3, request_id="mine-1")
        assert own.token_ids == expected_tokens("other", 3)


def test_the_blocking_client_and_the_command_line(stack: Stack) -> None:
    with bitlane.Client(stack.target, api_key=ACME) as client:
        stream = client.stream("sync", model="smollm2", max_tokens=10)
        assert "".join(delta.text for delta in stream) == expected_text("sync", 10)
        assert {pool.name for model in client.list_models() for pool in model.pools} == {"smollm2/fp4", "smollm2/fp8"}


async def test_the_first_token_comes_at_once_and_what_follows_travels_together(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 20}')
    target = stack.target_of(stack.add_router(env={"BITLANE_ROUTER_MERGE_MS": "1000"}))
    async with (
        bitlane.AsyncClient(target, api_key=ACME) as client,
        client.stream("hello", model="smollm2", max_tokens=45) as stream,
    ):
        deltas = [delta.token_ids async for delta in stream]
    first, rest = deltas  # the reply takes 0.9 s, and its end ends the wait for more
    assert len(first) < len(rest)
    assert (*first, *rest) == expected_tokens("hello", 45)
