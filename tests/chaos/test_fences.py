"""Fences that only rare faults reach, each met by making that fault on purpose."""

import asyncio

import pytest

from tests.chaos.conftest import MakeStack
from tests.chaos.load import all_got, ask

pytestmark = pytest.mark.timeout(60)

INBOX = "bl:{0}:in:router-1"


async def test_a_router_that_lost_its_inbox_follows_again(chaos_stack: MakeStack) -> None:
    """The inbox goes, and with it what it held; the request's own list of followers goes too, as a restored server's."""
    stack = chaos_stack(engine={"token_ms": 20})
    async with stack.client() as client, stack.broker() as broker:
        asks = [
            asyncio.create_task(ask(stack.history, client, "acme", f"inbox {i}", 150, request_id=f"inbox-{i}"))
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
        await running
        (await stack.history.check(broker)).assert_sound()
