"""Every call of both clients."""

import asyncio
import inspect
import math

import pytest

import bitlane
from bitlane import AsyncClient, AsyncStream, Client, Delta, FinishReason, InvalidRequest, Precision, Stream
from bitlane.testing import FakeServer, Reply


async def test_stream(server: FakeServer, client: AsyncClient):
    stream = client.stream("Hi there", model="fake", task="math", pin="fp8")
    assert (stream.decision, stream.finished, stream.text) == (None, None, "")
    accepted = await stream.accepted()
    assert accepted.request_id == stream.request_id
    assert stream.decision is accepted.decision
    assert (accepted.decision.precision, accepted.decision.reason) == (Precision.FP8, "pinned")
    deltas = [delta async for delta in stream]
    assert [delta.text for delta in deltas] == ["Hello", ", ", "world", "!"]
    assert [(delta.index, delta.next_index) for delta in deltas] == [(i, i + 1) for i in range(4)]
    assert stream.text == "Hello, world!"
    assert stream.finished is not None
    assert stream.finished.reason is FinishReason.STOP
    assert stream.finished.usage.output_tokens == 4
    assert await anext(stream, None) is None, "the end stays the end"
    assert (await stream.result()).text == "Hello, world!"
    [call] = server.calls
    assert call.request_id == stream.request_id, "an id is sent always, so that a retry cannot run twice"


async def test_a_client_that_leaves_after_the_end_does_not_look_cancelled(server: FakeServer):
    for _ in range(20):
        async with AsyncClient(server.target) as client:
            await client.generate("Hi", model="fake")
    for call in server.calls:
        assert await asyncio.to_thread(call.ended.wait, 10)
        assert call.outcome == "ok"


async def test_accepted_may_be_asked_for_late_and_twice(client: AsyncClient):
    stream = client.stream("Hi", model="fake")
    first = await anext(stream)
    assert first == Delta(0, 1, "Hello", (0,))
    assert await stream.accepted() is await stream.accepted()


async def test_nothing_is_sent_before_the_first_read(server: FakeServer, client: AsyncClient):
    async with client.stream("Hi", model="fake"):
        pass
    assert server.calls == []


async def test_generate(client: AsyncClient):
    reply = await client.generate(messages=[{"role": "user", "content": "Hi"}], model="fake", request_id="mine")
    assert (reply.request_id, reply.text, reply.finish_reason) == ("mine", "Hello, world!", "stop")
    assert reply.token_ids == (0, 1, 2, 3)
    assert reply.precision is Precision.FP4
    assert reply.decision is reply.receipt.decision
    assert reply.receipt.profile is not None
    assert reply.receipt.profile.weight_format == "NVFP4"
    assert reply.receipt.total_time >= 0


async def test_resume_continues_a_reply_of_another_client(server: FakeServer, client: AsyncClient):
    await client.generate("Hi", model="fake", request_id="r")
    async with AsyncClient(server.target) as other:
        stream = other.resume("r", 2)
        assert [delta.index async for delta in stream] == [2, 3]
        assert (await stream.result()).text == "world!"


async def test_resume_checks_its_index(client: AsyncClient):
    with pytest.raises(InvalidRequest, match="next_index"):
        client.resume("r", -1)


async def test_cancel_by_id(server: FakeServer, client: AsyncClient):
    server.script(Reply(["a", "b", "c"], hold_after=1))
    stream = client.stream("Hi", model="fake")
    assert (await anext(stream)).text == "a"
    outcome = await client.cancel(stream.request_id)
    assert (outcome.cancelled, outcome.reason, outcome.usage.output_tokens) == (True, "cancelled", 1)
    reply = await stream.result()
    assert (reply.text, reply.finish_reason) == ("a", FinishReason.CANCELLED)
    assert not (await client.cancel(stream.request_id)).cancelled


async def test_cancel_by_stream(server: FakeServer, client: AsyncClient):
    server.script(Reply(["a", "b"], hold_after=1))
    async with client.stream("Hi", model="fake") as stream:
        await anext(stream)
        assert (await stream.cancel()).cancelled
        assert [delta async for delta in stream] == []
    assert stream.finished is not None
    assert stream.finished.reason is FinishReason.CANCELLED


async def test_explain(server: FakeServer, client: AsyncClient):
    found = await client.explain("one two", model="fake", at_least="fp8")
    assert (found.decision.precision, found.decision.reason) == (Precision.FP8, "client_floor")
    assert [step.applied for step in found.steps] == [True, False]
    assert [pool.name for pool in found.pools] == ["fake/fp4", "fake/fp8"]
    assert found.estimated_prompt_tokens == 2
    assert server.runs == 0


async def test_list_models(client: AsyncClient):
    [model] = await client.list_models()
    assert (model.name, model.context_tokens) == ("fake", 8192)
    assert [pool.precision for pool in model.pools] == ["fp4", "fp8"]


async def test_key_and_metadata_go_with_every_call():
    async with FakeServer(api_key="bl_k") as server:
        async with AsyncClient(server.target, api_key="bl_k", metadata={"X-Team": "a"}) as client:
            await client.generate("Hi", model="fake", metadata={"traceparent": "00-1"})
            await client.list_models()
        assert [call.metadata["x-team"] for call in server.calls] == ["a", "a"]
        assert server.calls[0].metadata["traceparent"] == "00-1"
        assert server.calls[0].metadata["user-agent"].startswith(f"bitlane-python/{bitlane.__version__}")


async def test_timeouts_become_the_deadline(server: FakeServer):
    async with AsyncClient(server.target) as client:
        await client.generate("Hi", model="fake")
        await client.generate("Hi", model="fake", timeout=7)
        await client.generate("Hi", model="fake", timeout=math.inf)
        await client.list_models()
    left = [call.timeout for call in server.calls]
    assert left[0] == pytest.approx(600, abs=5)
    assert left[1] == pytest.approx(7, abs=3)
    assert left[2] is None
    assert left[3] == pytest.approx(10, abs=5)


async def test_many_calls_at_once(server: FakeServer, client: AsyncClient):
    replies = await asyncio.gather(*(client.generate(str(n), model="fake") for n in range(100)))
    assert {reply.text for reply in replies} == {"Hello, world!"}
    assert server.runs == 100


async def test_a_closed_client_says_so(client: AsyncClient):
    await client.list_models()
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.list_models()


def test_another_event_loop_is_refused(threaded_server: FakeServer):
    client = AsyncClient(threaded_server.target)

    async def use() -> None:
        await client.list_models()

    async def use_and_close() -> None:
        await use()
        loop = asyncio.new_event_loop()
        try:
            with pytest.raises(RuntimeError, match="event loop"):
                await asyncio.to_thread(loop.run_until_complete, use())
        finally:
            loop.close()
        await client.close()

    asyncio.run(use_and_close())


def test_sync_stream(sync_client: Client):
    with sync_client.stream("Hi", model="fake", task="code") as stream:
        assert stream.decision is None
        assert stream.accepted().decision.task == "code"
        assert [delta.text for delta in stream] == ["Hello", ", ", "world", "!"]
    assert stream.finished is not None
    assert stream.result().text == stream.text == "Hello, world!"
    assert stream.next_index == 4
    assert stream.request_id in repr(stream)


def test_sync_calls(threaded_server: FakeServer, sync_client: Client):
    assert sync_client.generate("Hi", model="fake", request_id="r").text == "Hello, world!"
    assert sync_client.resume("r", 3).result().text == "!"
    assert not sync_client.cancel("r").cancelled
    assert sync_client.explain("Hi", model="fake").decision.pool == "fake/fp4"
    assert [model.name for model in sync_client.list_models()] == ["fake"]
    threaded_server.script(Reply(["a", "b"], hold_after=1))
    stream = sync_client.stream("Hi", model="fake")
    next(stream)
    assert stream.cancel().cancelled
    assert stream.result().finish_reason is FinishReason.CANCELLED


@pytest.mark.parametrize(("blocking", "asynchronous"), [(Client, AsyncClient), (Stream, AsyncStream)])
def test_both_kinds_have_the_same_calls_with_the_same_arguments(blocking: type, asynchronous: type):
    def calls(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(kind, callable)
            if not name.startswith("_") or name == "__init__"
        }

    extra = {"next_delta"} if asynchronous is AsyncStream else set[str]()
    expected = {name: arguments for name, arguments in calls(asynchronous).items() if name not in extra}
    if blocking is Stream:
        expected.pop("__init__")
        assert expected == {name: each for name, each in calls(blocking).items() if name != "__init__"}
    else:
        assert expected == calls(blocking)
