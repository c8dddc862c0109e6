"""Fences that only rare faults reach, each met by making that fault on purpose."""

import asyncio

import pytest

from broker.types import Held, Lease, Outcome, RequestRef, Usage
from tests.chaos.conftest import MakeStack
from tests.chaos.history import token_faults
from tests.chaos.load import all_got, ask
from tests.chaos.stack import FP8

pytestmark = pytest.mark.timeout(60)

INBOX = "bl:{0}:in:router-1"


async def test_who_held_a_request_cannot_write_any_more(chaos_stack: MakeStack) -> None:
    """A zombie that nobody told: it writes, renews, finishes and gives back under the epoch that it had."""
    stack = chaos_stack(engine={"token_ms": 20})
    async with stack.client() as client, stack.broker() as broker:
        running = asyncio.create_task(
            ask(stack.history, client, "acme", "forged", 150, request_id="forged-1", pin="fp8")
        )
        await all_got(stack.history, 1, 10)
        victim = stack.live_workers(FP8)[0]
        stack.add_worker(FP8)
        victim.kill()
        await all_got(stack.history, 1, 60)
        lease = Lease(RequestRef("acme", "forged-1"), FP8, victim.name, epoch=1)
        usage = Usage(1, 0, 1)
        for _ in range(20):
            length = (await broker.read_log(lease.ref, 0)).next_index
            held = [
                await broker.append(lease, length, b"forged", 1),
                await broker.renew(lease),
                await broker.finish(lease, length, None, 0, Outcome.STOP, "", usage),
                await broker.release(lease, failed=False),
            ]
            assert set(held) == {Held.FENCED}
        record = await running
        assert record.finishes, record.errors
        (await stack.history.check(broker)).assert_sound()


async def test_a_router_that_lost_its_inbox_follows_again(chaos_stack: MakeStack) -> None:
    """The inbox goes, and with it what it held; so does the list of who follows, as when an old state comes back."""
    stack = chaos_stack(engine={"token_ms": 30})
    async with stack.client() as client, stack.broker() as broker:
        # Longer than the 10 s within which a router looks after its inbox.
        asks = [
            asyncio.create_task(ask(stack.history, client, "acme", f"inbox {i}", 600, request_id=f"inbox-{i}"))
            for i in range(4)
        ]
        await all_got(stack.history, 4, 10)
        stack.history.note("the inbox is lost, and who follows is forgotten")
        run = broker._shards[0].command  # pyright: ignore[reportPrivateUsage]
        await asyncio.gather(
            *(run("HSET", f"bl:{{0}}:req:acme/inbox-{i}", "owners", "") for i in range(4)), run("DEL", INBOX)
        )
        await asyncio.gather(*asks)
        (await stack.history.check(broker)).assert_sound()


async def test_an_inbox_that_repeats_itself_doubles_nothing(chaos_stack: MakeStack) -> None:
    """Chunks that come twice, as after a gap: an attachment held them, and the inbox brings them again."""
    stack = chaos_stack(engine={"token_ms": 20})
    async with stack.client() as client, stack.broker() as broker:
        running = asyncio.create_task(ask(stack.history, client, "acme", "again", 100, request_id="again-1"))
        run = broker._shards[0].command  # pyright: ignore[reportPrivateUsage]
        for tokens in (10, 30, 50):
            await all_got(stack.history, 1, tokens)
            stack.history.note("chunk 3 comes again")
            chunk = await run("LINDEX", "bl:{0}:log:acme/again-1", 3)
            assert isinstance(chunk, bytes)
            await run("XADD", INBOX, "0-*", "chunk", "acme/again-1", "i", 3, "c", chunk)
        record = await running
    # Not the whole check, which would find the repeats in the inbox: they are this test's own.
    assert token_faults(record) == []
    assert record.finishes, record.errors
