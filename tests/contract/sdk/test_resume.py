"""Broken streams: every chunk arrives exactly once, whatever breaks and wherever."""

import asyncio
import time

import pytest

from bitlane import (
    Aborted,
    AsyncClient,
    Client,
    DeadlineExceeded,
    InternalError,
    NotFound,
    RetryPolicy,
    Unavailable,
)
from bitlane.testing import FakeServer, Fault, Reply
from bitlane.v1 import inference_pb2 as pb

FAST = RetryPolicy(initial_backoff=0.001, max_backoff=0.01)
CHUNKS = [f"<{n}>" for n in range(8)]


@pytest.mark.parametrize("k", range(len(CHUNKS) + 1))
async def test_a_drop_after_any_chunk_costs_nothing(server: FakeServer, client: AsyncClient, k: int):
    server.script(Reply(CHUNKS))
    server.inject(Fault.drop(after=k))
    stream = client.stream("Hi", model="fake")
    assert [delta.index async for delta in stream] == list(range(len(CHUNKS)))
    assert stream.text == "".join(CHUNKS)
    [generate, resume] = server.calls
    assert (generate.method, resume.method) == ("Generate", "Resume")
    assert isinstance(resume.request, pb.ResumeRequest)
    assert (resume.request.request_id, resume.request.next_index) == (stream.request_id, k)
    assert server.runs == 1


async def test_a_drop_after_every_chunk(server: FakeServer, client: AsyncClient):
    server.script(Reply(CHUNKS))
    server.inject(Fault.drop(after=1, times=len(CHUNKS)))
    assert (await client.generate("Hi", model="fake")).text == "".join(CHUNKS)
    assert len(server.calls_of("Resume")) == len(CHUNKS)


async def test_resumes_are_tried_again_and_are_not_charged_to_the_budget(server: FakeServer):
    policy = RetryPolicy(initial_backoff=0.001, max_backoff=0.01, budget=0)
    async with AsyncClient(server.target, retry=policy) as client:
        server.inject(Fault.drop(after=2), Fault.unavailable(times=20, method="Resume"))
        assert (await client.generate("Hi", model="fake")).text == "Hello, world!"
    assert len(server.calls_of("Resume")) == 21


async def test_a_sync_stream_resumes_too(threaded_server: FakeServer, sync_client: Client):
    threaded_server.inject(Fault.drop(after=1, times=3))
    assert [delta.index for delta in sync_client.stream("Hi", model="fake")] == [0, 1, 2, 3]


async def test_a_stream_that_was_resumed_by_hand_resumes_itself(server: FakeServer, client: AsyncClient):
    await client.generate("Hi", model="fake", request_id="r")
    server.inject(Fault.drop(after=1))
    assert [delta.index async for delta in client.resume("r", 1)] == [1, 2, 3]


async def test_a_killed_server_that_comes_back(server: FakeServer, client: AsyncClient):
    """A real connection is reset here, not a status sent."""
    server.script(Reply(CHUNKS, hold_after=3))
    stream = client.stream("Hi", model="fake")
    for _ in range(3):
        await anext(stream)
    await server.stop()
    reading = asyncio.create_task(stream.result())
    await server.start()
    server.release()
    assert (await reading).text == "".join(CHUNKS)
    assert server.calls_of("Resume")


async def test_another_server_takes_over(server: FakeServer):
    server.script(Reply(CHUNKS, hold_after=3))
    async with server.twin() as twin, AsyncClient(f"{server.target},{twin.target}", retry=FAST, timeout=20) as client:
        stream = client.stream("Hi", model="fake")
        for _ in range(3):
            await anext(stream)
        await server.stop()
        server.release()
        assert [delta.index async for delta in stream] == [3, 4, 5, 6, 7]
        assert server.runs == 1


async def test_a_reply_lost_before_its_first_chunk_is_generated_again(server: FakeServer, client: AsyncClient):
    server.inject(Fault.drop(after=0), Fault("NOT_FOUND", "no such request", method="Resume"))
    stream = client.stream("Hi", model="fake")
    assert (await stream.result()).text == "Hello, world!"
    assert [call.method for call in server.calls] == ["Generate", "Resume", "Generate"]
    assert len({call.request_id for call in server.calls}) == 1


async def test_a_server_that_loses_every_reply_is_not_asked_for_ever(server: FakeServer, client: AsyncClient):
    server.inject(
        Fault.drop(after=0, method="Generate", times=1000),
        Fault("NOT_FOUND", "no such request", method="Resume", times=1000),
    )
    with pytest.raises(Aborted, match="no longer knows"):
        await client.generate("Hi", model="fake")
    assert len(server.calls_of("Generate")) == 5


async def test_a_reply_lost_after_its_first_chunk_is_not_spliced(server: FakeServer, client: AsyncClient):
    server.inject(Fault.drop(after=2), Fault("NOT_FOUND", "no such request", method="Resume"))
    stream = client.stream("Hi", model="fake")
    with pytest.raises(Aborted, match="chunk 2") as caught:
        await stream.result()
    assert caught.value.reason == "REPLY_LOST"
    assert stream.text == "Hello, "


async def test_an_unknown_id_is_not_found(client: AsyncClient):
    with pytest.raises(NotFound):
        await client.resume("nope").result()


async def test_the_deadline_holds_across_resumes(server: FakeServer, client: AsyncClient):
    # Pauses longer than the clocks' noise.
    server.script(Reply(CHUNKS, pause=0.05, hold_after=5))
    server.inject(Fault.drop(after=1, times=4))
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await client.generate("Hi", model="fake", timeout=1)
    assert time.monotonic() - began < 5
    left = [call.timeout for call in server.calls if call.timeout is not None]
    assert len(left) == 5
    assert left == sorted(left, reverse=True), "each attempt gets what is left of the same deadline"
    assert max(left) <= 1.01


async def test_a_deadline_ends_a_hopeless_resume(server: FakeServer, client: AsyncClient):
    server.inject(Fault.drop(after=1), Fault.unavailable(times=100_000, method="Resume"))
    began = time.monotonic()
    with pytest.raises((DeadlineExceeded, Unavailable)):
        await client.generate("Hi", model="fake", timeout=0.5)
    assert time.monotonic() - began < 5


async def test_the_window_ends_a_hopeless_resume(server: FakeServer):
    policy = RetryPolicy(initial_backoff=0.01, max_backoff=0.02, resume_window=0.2)
    async with AsyncClient(server.target, retry=policy) as client:
        server.inject(Fault.drop(after=1), Fault.unavailable(times=100_000, method="Resume"))
        with pytest.raises(Unavailable):
            await client.generate("Hi", model="fake")
    assert server.calls_of("Resume")


async def test_a_long_wait_for_the_next_token_does_not_use_up_the_window(server: FakeServer):
    """The window starts when the stream breaks, not with the last token."""
    policy = RetryPolicy(initial_backoff=0.001, max_backoff=0.01, resume_window=0.2)
    server.script(Reply(CHUNKS, pause=0.1))
    async with AsyncClient(server.target, retry=policy) as client:
        server.inject(Fault.drop(after=4))
        assert (await client.generate("Hi", model="fake")).text == "".join(CHUNKS)


class Forgetful(FakeServer):
    """Sends chunks that do not follow on each other."""

    def __init__(self, indices: list[tuple[int, int]], *, always: bool = False) -> None:
        super().__init__(Reply(CHUNKS))
        honest = self._service.Generate

        async def generate(request: pb.GenerateRequest, context: object):
            number = 0
            async for event in honest(request, context):  # pyright: ignore[reportArgumentType]  # passed on as it came
                if event.HasField("delta") and number < len(indices):
                    event.delta.index, event.delta.next_index = indices[number]
                    number += 1
                yield event

        self._service.Generate = generate
        if always:

            async def resume(request: pb.ResumeRequest, context: object):
                del request, context
                yield pb.GenerateEvent(accepted=pb.Accepted(request_id="r"))
                yield pb.GenerateEvent(delta=pb.Delta(index=7, next_index=8, text="late"))

            self._service.Resume = resume


async def test_a_hole_is_filled_by_a_resume():
    async with Forgetful([(0, 1), (1, 2), (5, 6)]) as server, AsyncClient(server.target, retry=FAST) as client:
        stream = client.stream("Hi", model="fake")
        assert [delta.text async for delta in stream] == CHUNKS
        [resume] = server.calls_of("Resume")
        assert isinstance(resume.request, pb.ResumeRequest)
        assert resume.request.next_index == 2


async def test_a_repeated_chunk_is_dropped():
    async with Forgetful([(0, 1), (0, 1), (1, 2)]) as server, AsyncClient(server.target, retry=FAST) as client:
        stream = client.stream("Hi", model="fake")
        assert [delta.index async for delta in stream][:3] == [0, 1, 3] or server.calls_of("Resume")


async def test_a_server_that_never_sends_the_due_chunk_is_a_fault_of_the_server():
    policy = RetryPolicy(initial_backoff=0.001, max_backoff=0.01, resume_window=0.2)
    async with (
        Forgetful([(0, 1), (5, 6)], always=True) as server,
        AsyncClient(server.target, retry=policy) as client,
    ):
        with pytest.raises(InternalError, match="chunk 1 was due and 7 came"):
            await client.generate("Hi", model="fake")
