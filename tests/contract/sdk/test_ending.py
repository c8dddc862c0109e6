"""Leaving a stream early, from either side, in tasks and in threads."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from bitlane import Aborted, AsyncClient, Client, RetryPolicy
from bitlane.testing import Call, FakeServer, Fault, Reply

HOLD = Reply(["a", "b", "c"], hold_after=1)


def ended(call: Call) -> str:
    assert call.ended.wait(10), "the server still runs the call"
    return call.outcome


async def test_leaving_the_block_early_ends_the_request(server: FakeServer, client: AsyncClient):
    server.script(HOLD)
    async with client.stream("Hi", model="fake") as stream:
        async for _ in stream:
            break
    assert await asyncio.to_thread(ended, server.calls[0]) == "cancelled"
    assert [delta async for delta in stream] == []
    assert stream.finished is None
    with pytest.raises(RuntimeError, match="closed before its end"):
        await stream.result()


async def test_an_error_in_the_block_ends_the_request(server: FakeServer, client: AsyncClient):
    server.script(HOLD)

    async def fail_inside() -> None:
        async with client.stream("Hi", model="fake") as stream:
            await anext(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_inside()
    assert await asyncio.to_thread(ended, server.calls[0]) == "cancelled"


async def test_a_forgotten_stream_ends_with_its_last_reference(server: FakeServer, client: AsyncClient):
    server.script(HOLD)
    async for _ in client.stream("Hi", model="fake"):
        break
    gc.collect()
    assert await asyncio.to_thread(ended, server.calls[0]) == "cancelled"


async def test_cancelling_the_task_ends_the_request(server: FakeServer, client: AsyncClient):
    server.script(HOLD)
    stream = client.stream("Hi", model="fake")
    await anext(stream)
    task = asyncio.create_task(stream.result())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended, server.calls[0]) == "cancelled"
    with pytest.raises(Aborted, match="interrupted"):
        await anext(stream)


async def test_a_read_that_was_timed_out_does_not_look_like_the_end(server: FakeServer, client: AsyncClient):
    server.script(HOLD)
    stream = client.stream("Hi", model="fake")
    await anext(stream)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(stream)
    with pytest.raises(Aborted, match="interrupted"):
        await stream.result()


async def test_closing_from_another_task_ends_the_iteration(server: FakeServer, client: AsyncClient):
    server.script(HOLD)
    stream = client.stream("Hi", model="fake")

    async def read() -> list[str]:
        return [delta.text async for delta in stream]

    await stream.accepted()
    reading = asyncio.create_task(read())
    while not stream.text:
        await asyncio.sleep(0.001)
    await stream.close()
    assert await reading == ["a"]
    assert await asyncio.to_thread(ended, server.calls[0]) == "cancelled"


async def test_closing_between_attempts_cancels_by_id(server: FakeServer):
    """With no connection left to cut, the server would not learn that nobody waits any more."""
    slow = RetryPolicy(initial_backoff=60, max_backoff=60)
    server.inject(Fault.drop(after=1))
    async with AsyncClient(server.target, retry=slow) as client, client.stream("Hi", model="fake") as stream:
        await anext(stream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(stream)
    [cancel] = server.calls_of("Cancel")
    assert cancel.request_id == stream.request_id


async def test_a_request_with_a_grace_is_left_running(server: FakeServer):
    slow = RetryPolicy(initial_backoff=60, max_backoff=60)
    server.inject(Fault.drop(after=1))
    async with (
        AsyncClient(server.target, retry=slow) as client,
        client.stream("Hi", model="fake", disconnect_grace=30) as stream,
    ):
        await anext(stream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(stream)
    assert server.calls_of("Cancel") == []


def test_a_forgotten_sync_stream_ends_too(threaded_server: FakeServer, sync_client: Client):
    threaded_server.script(HOLD)
    next(sync_client.stream("Hi", model="fake"))
    gc.collect()
    assert ended(threaded_server.calls[0]) == "cancelled"


def test_sync_leaving_early(threaded_server: FakeServer, sync_client: Client):
    threaded_server.script(HOLD)
    with sync_client.stream("Hi", model="fake") as stream:
        next(stream)
    assert ended(threaded_server.calls[0]) == "cancelled"
    assert list(stream) == []


def test_many_threads_share_a_client(threaded_server: FakeServer, sync_client: Client):
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(partial(sync_client.generate, model="fake"), map(str, range(64))))
    assert {reply.text for reply in replies} == {"Hello, world!"}
    assert threaded_server.runs == 64


def test_several_clients_at_once_make_no_noise(threaded_server: FakeServer, caplog: pytest.LogCaptureFixture):
    """Older gRPC wakes the wrong event loop now and then, and would log thousands of tracebacks about it."""

    def work(_: int) -> None:
        with Client(threaded_server.target) as client:
            for _ in range(20):
                client.generate("Hi", model="fake")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_several_clients_leave_no_thread_behind(threaded_server: FakeServer):
    before = threading.active_count()
    for _ in range(5):
        with Client(threaded_server.target) as client:
            client.list_models()
    assert threading.active_count() == before


def test_closing_a_client_frees_the_thread_that_reads(threaded_server: FakeServer):
    threaded_server.script(HOLD)
    client = Client(threaded_server.target)
    stream = client.stream("Hi", model="fake")
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: next(stream))
        client.close()
        client.close()
        with pytest.raises((Aborted, RuntimeError), match="closed"):
            reading.result(10)
    stream.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.list_models()


def test_ctrl_c_in_the_middle_of_a_sync_stream(threaded_server: FakeServer, sync_client: Client):
    threaded_server.script(HOLD)
    stream = sync_client.stream("Hi", model="fake")
    next(stream)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert ended(threaded_server.calls[0]) == "cancelled"
    assert sync_client.list_models(), "the client goes on"


def test_a_blocking_call_inside_the_client_s_own_loop_is_refused(sync_client: Client):
    sync_client.list_models()

    async def call_back() -> None:
        sync_client.list_models()

    with pytest.raises(RuntimeError, match="wait for itself"):
        sync_client._loop.run(call_back())  # pyright: ignore[reportPrivateUsage]  # no public way leads there


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_client_does_not_survive_a_fork(threaded_server: FakeServer):
    script = """
        import os, sys
        from bitlane import Client
        client = Client(sys.argv[1])
        client.list_models()
        child = os.fork()
        if child == 0:
            try:
                client.list_models()
            except RuntimeError as error:
                client.close()
                os._exit(7 if "fork" in str(error) else 1)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        client.list_models()
        client.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), threaded_server.target]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_a_client_that_nobody_closed_does_not_keep_the_process(threaded_server: FakeServer):
    script = "import sys, bitlane; bitlane.Client(sys.argv[1]).list_models()"
    command = [sys.executable, "-W", "error", "-c", script, threaded_server.target]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
