"""Errors over the wire: each becomes one of the SDK's, and nothing of gRPC comes with it."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import get_args

import pytest

import bitlane
from bitlane import AsyncClient, Client, RetryPolicy, Violation
from bitlane.faults import BY_CODE
from bitlane.testing import FakeServer, Fault, Reply
from bitlane.testing.script import Code, Method

CODES: list[Code] = list(get_args(Code))
NONE = RetryPolicy.none()

CALLS: dict[Method, Callable[[AsyncClient], Awaitable[object]]] = {
    "Generate": lambda client: client.generate("Hi", model="fake"),
    "Resume": lambda client: client.resume("r").result(),
    "Cancel": lambda client: client.cancel("r"),
    "Explain": lambda client: client.explain("Hi", model="fake"),
    "ListModels": lambda client: client.list_models(),
}


def assert_no_trace_of_grpc(error: BaseException) -> None:
    """Walks the error, what caused it and what it came up in."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or each in seen:
            continue
        seen.append(each)
        assert not type(each).__module__.startswith(("grpc", "google")), repr(each)
        for value in vars(each).values():
            assert not type(value).__module__.startswith(("grpc", "google")), repr(value)
        todo += [each.__cause__, each.__context__]
    assert "AioRpcError" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("after", [None, 0, 2])
@pytest.mark.parametrize("code", CODES)
async def test_each_code_while_streaming(server: FakeServer, code: Code, after: int | None):
    async with AsyncClient(server.target, retry=NONE) as client:
        server.inject(Fault(code, "told so", reason="BECAUSE", after=after))
        stream = client.stream("Hi", model="fake", request_id="mine")
        with pytest.raises(bitlane.BitlaneError, match="told so") as caught:
            await stream.result()
        kinds = {key.name: kind for key, kind in BY_CODE.items()}
        assert type(caught.value) is kinds.get(code, bitlane.InternalError)
        assert (caught.value.request_id, caught.value.reason) == ("mine", "BECAUSE")
        assert len(stream.text) == len("Hello, "[: 7 if after else 0])
        assert_no_trace_of_grpc(caught.value)
        with pytest.raises(type(caught.value)):
            await anext(stream)


@pytest.mark.parametrize("method", CALLS)
async def test_each_call_raises_the_sdk_s_errors(server: FakeServer, method: Method):
    violations = [Violation("sampling.max_tokens", "must be at least 1"), Violation("model", "is required")]
    async with AsyncClient(server.target, retry=NONE) as client:
        server.inject(Fault("INVALID_ARGUMENT", "2 fields are not valid", violations=violations))
        with pytest.raises(bitlane.InvalidRequest, match=r"sampling\.max_tokens: must be at least 1") as caught:
            await CALLS[method](client)
        assert list(caught.value.violations) == violations
        assert_no_trace_of_grpc(caught.value)


@pytest.mark.parametrize("method", CALLS)
async def test_when_nothing_listens(method: Method):
    async with FakeServer() as server:
        target = server.target
    async with AsyncClient(target, retry=NONE) as client:
        with pytest.raises(bitlane.ConnectionFailed) as caught:
            await CALLS[method](client)
        assert_no_trace_of_grpc(caught.value)


async def test_a_wrong_key():
    async with FakeServer(api_key="right") as server, AsyncClient(server.target, api_key="wrong") as client:
        with pytest.raises(bitlane.AuthenticationError) as caught:
            await client.list_models()
        assert "wrong" not in str(caught.value)
        assert len(server.calls) == 1


async def test_unknown_model_and_taken_id(client: AsyncClient):
    with pytest.raises(bitlane.NotFound, match="nope"):
        await client.generate("Hi", model="nope")
    await client.generate("Hi", model="fake", request_id="r")
    assert (await client.generate("Hi", model="fake", request_id="r")).text == "Hello, world!"
    with pytest.raises(bitlane.IdConflict):
        await client.generate("Other", model="fake", request_id="r")


async def test_an_abort_is_not_resumed(server: FakeServer, client: AsyncClient):
    server.inject(Fault("ABORTED", "its worker died", reason="NOT_MIGRATABLE", after=1))
    with pytest.raises(bitlane.Aborted) as caught:
        await client.generate("Hi", model="fake", regex="a+")
    assert caught.value.reason == "NOT_MIGRATABLE"
    assert [call.method for call in server.calls] == ["Generate"]


async def test_closing_the_client_ends_what_is_being_read(server: FakeServer):
    """Neither gRPC's error nor a CancelledError that nobody asked for comes out."""
    server.script(Reply(["a", "b"], hold_after=1))
    client = AsyncClient(server.target)
    stream = client.stream("Hi", model="fake")
    await anext(stream)
    reading = asyncio.create_task(stream.result())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(bitlane.Aborted, match="closed") as caught:
        await reading
    assert_no_trace_of_grpc(caught.value)


def test_sync_errors_are_as_clean(threaded_server: FakeServer, sync_client: Client):
    threaded_server.inject(Fault("INTERNAL", "our bug"))
    with pytest.raises(bitlane.InternalError) as caught:
        sync_client.generate("Hi", model="fake")
    assert_no_trace_of_grpc(caught.value)
