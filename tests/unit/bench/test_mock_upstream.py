"""The peers' model server and their client: every token is sent and counted, streamed or not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bench.peers.http import MOST
from bench.peers.load import run
from bench.peers.upstream import Upstream
from bench.service.load import Work


@pytest.fixture
async def target() -> AsyncIterator[str]:
    server = await asyncio.start_server(Upstream(0.0).serve, "127.0.0.1", 0, limit=MOST)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("stream", [True, False])
async def test_all_tokens_are_counted(target: str, stream: bool) -> None:
    seen = await run(Work(target, requests=6, at_once=2, tokens=7, stream=stream))
    assert not seen.wrong
    assert (len(seen.first_s), len(seen.whole_s), seen.tokens) == (6, 6, 42)


async def test_streams_can_be_left_and_large_prompts_sent(target: str) -> None:
    seen = await run(Work(target, requests=4, at_once=2, tokens=5, prompt_bytes=100_000, cancel=True))
    assert not seen.wrong
    assert len(seen.whole_s) == 4
    assert seen.tokens >= 4
