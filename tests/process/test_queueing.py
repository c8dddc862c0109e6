"""One slot and a short queue: what waits, what is refused, what leaves before its turn."""

import asyncio
from pathlib import Path

import pytest

import bitlane
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME, GLOBEX, expected_text, expected_tokens

pytestmark = pytest.mark.timeout(90)

ONCE = bitlane.RetryPolicy.none()


@pytest.fixture
def narrow(make_stack: StackMaker, tmp_path: Path) -> Stack:
    """One slot a pool, three places in a tenant's queue, 50 tokens of context, 10 ms a token."""
    config = tmp_path / "narrow.yaml"
    local = Path("config/local.yaml").read_text(encoding="utf-8")
    config.write_text(local.replace("queued_requests: 256", "queued_requests: 3"), encoding="utf-8")
    return make_stack(engine_options='{"slots": 1, "context_tokens": 50, "token_ms": 10}', config=config)


async def test_a_full_queue_refuses_and_says_when_to_come_back(narrow: Stack) -> None:
    async with bitlane.AsyncClient(narrow.target, api_key=ACME, retry=ONCE) as client:
        streams = [client.stream(f"q {i}", model="smollm2", pin="fp8", max_tokens=60) for i in range(4)]
        await anext(streams[0])  # it has the slot
        for stream in streams[1:]:
            await stream.accepted()
        with pytest.raises(bitlane.QuotaExceeded) as full:
            await client.generate("one more", model="smollm2", pin="fp8", max_tokens=1)
        assert full.value.reason == "QUEUE_FULL"
        assert full.value.retry_after is not None
        assert full.value.retry_after > 0
        assert [(v.field, v.description) for v in full.value.violations] == [("tenant:acme", str(full.value.message))]
        # The bound is the tenant's, not the pool's.
        async with bitlane.AsyncClient(narrow.target, api_key=GLOBEX, retry=ONCE) as other:
            assert (await other.generate("theirs", model="smollm2", pin="fp8", max_tokens=2)).usage.output_tokens == 2
        for i, stream in enumerate(streams):
            assert (await stream.result()).token_ids == expected_tokens(f"q {i}", 60)


async def test_what_is_cancelled_in_the_queue_never_starts(narrow: Stack) -> None:
    async with bitlane.AsyncClient(narrow.target, api_key=ACME) as client:
        running = client.stream("first", model="smollm2", pin="fp8", max_tokens=40)
        await anext(running)
        queued = client.stream("second", model="smollm2", pin="fp8", max_tokens=40)
        await queued.accepted()
        assert (await client.cancel(queued.request_id)).cancelled
        ended = await queued.result()
        assert (ended.text, ended.finish_reason, ended.receipt.attempts) == ("", "cancelled", 0)
        assert (await running.result()).token_ids == expected_tokens("first", 40)


async def test_urgent_work_goes_first(narrow: Stack) -> None:
    async with bitlane.AsyncClient(narrow.target, api_key=ACME) as client:
        running = client.stream("now", model="smollm2", pin="fp8", max_tokens=60)
        await anext(running)
        ended: list[str] = []

        async def note_end(priority: str, stream: bitlane.AsyncStream) -> None:
            await stream.result()
            ended.append(priority)

        ends: list[asyncio.Task[None]] = []
        for priority in ("batch", "standard", "interactive"):
            stream = client.stream(priority, model="smollm2", pin="fp8", max_tokens=10, priority=priority)
            await stream.accepted()
            ends.append(asyncio.create_task(note_end(priority, stream)))
        await asyncio.gather(running.result(), *ends)
        assert ended == ["interactive", "standard", "batch"]


async def test_a_prompt_beyond_the_context_is_the_clients_fault(narrow: Stack) -> None:
    async with bitlane.AsyncClient(narrow.target, api_key=ACME) as client:
        with pytest.raises(bitlane.InvalidRequest) as refused:
            await client.generate("word " * 60, model="smollm2", pin="fp8", max_tokens=5)
        assert refused.value.violations[0].field == "prompt"
        assert "50" in refused.value.violations[0].description
        assert (await client.generate("short", model="smollm2", pin="fp8", max_tokens=5)).usage.output_tokens == 5


@pytest.mark.timeout(30)
async def test_an_ended_reply_can_be_resumed_for_the_window_that_is_set(make_stack: StackMaker) -> None:
    stack = make_stack(worker_env={"BITLANE_WORKER_RESUME_WINDOW_S": "1"})
    async with bitlane.AsyncClient(stack.target, api_key=ACME) as client:
        await client.generate("brief", model="smollm2", max_tokens=5, request_id="brief-1")
        assert (await client.resume("brief-1").result()).text == expected_text("brief", 5)

        async def resume_until_gone() -> None:
            while True:
                await client.resume("brief-1").result()
                await asyncio.sleep(0.1)

        # The test's own time limit is below the default window of 60 s.
        with pytest.raises(bitlane.NotFound):
            await resume_until_gone()


async def test_a_request_waits_for_its_reader_as_long_as_it_asked(narrow: Stack) -> None:
    async with bitlane.AsyncClient(narrow.target, api_key=ACME) as client:
        # A reader that goes without a word, as a lost connection does.
        lost = bitlane.AsyncClient(narrow.target, api_key=ACME, retry=ONCE)
        stream = lost.stream(
            "patient", model="smollm2", pin="fp8", max_tokens=100, request_id="patient-1", disconnect_grace=30
        )
        seen = [await anext(stream) for _ in range(3)]
        with pytest.raises(bitlane.DeadlineExceeded):
            await lost.resume("patient-1", next_index=0, timeout=0.1).result()
        async with client.resume("patient-1", next_index=seen[-1].next_index) as resumed:
            rest = await resumed.result()
        assert "".join(delta.text for delta in seen) + rest.text == expected_text("patient", 100)
        await lost.close()
