"""Many streams of an engine that gathers tokens are read together, and lose nothing by it. On fakes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conformance.subjects import Subject, faked
from tests.engine.replies import Reply, job, reply
from workers.engine import Engine, EngineDead

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

STREAMS = 40
Start = Callable[[str], Awaitable[tuple[Engine, Subject]]]


@pytest.fixture
async def start(checkpoint: Path) -> AsyncIterator[Start]:
    engines: list[Engine] = []

    async def started(name: str) -> tuple[Engine, Subject]:
        subject = faked(name, checkpoint, slots=STREAMS, ignore_end=True)
        engines.append(subject.make())
        await engines[-1].start()
        return engines[-1], subject

    yield started
    for engine in engines:
        await engine.close()


async def _watch(engine: Engine) -> None:
    while True:
        await engine.health()
        await asyncio.sleep(0.01)


async def _together(engine: Engine, tokens: int) -> list[Reply]:
    return await asyncio.gather(*(reply(engine, job(f"Number {i}", tokens)) for i in range(STREAMS)))


@pytest.mark.parametrize("name", ["vllm", "sglang"])
async def test_many_streams_come_in_fewer_pieces_with_the_same_tokens(start: Start, name: str) -> None:
    engine, _ = await start(name)
    alone = [await reply(engine, job(f"Number {i}", 120)) for i in (0, STREAMS - 1)]
    assert max(len(one.deltas) for one in alone) > 100, "few streams are read token by token"
    together = await _together(engine, 120)
    assert [(r.text, r.tokens) for r in (together[0], together[-1])] == [(r.text, r.tokens) for r in alone]
    assert all(r.count == 120 for r in together)
    assert sum(len(r.deltas) for r in together) < STREAMS * 120 / 3
    # The first token is not waited for, and neither is the last one.
    assert all(r.deltas[0].tokens < 3 for r in together)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
async def test_streams_between_two_reads_are_cancelled_as_any_other(start: Start, name: str) -> None:
    engine, subject = await start(name)
    running = [asyncio.create_task(reply(engine, job(f"Number {i}", 300))) for i in range(STREAMS)]
    await asyncio.sleep(0.1)
    for task in running:
        task.cancel()
    assert all(isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*running, return_exceptions=True))
    assert subject.inside is not None
    async with asyncio.timeout(10):
        while subject.inside(engine):
            await asyncio.sleep(0.005)
    assert (await reply(engine, job("x", 3))).count == 3


@pytest.mark.parametrize("name", ["vllm", "sglang"])
async def test_streams_between_two_reads_learn_of_the_engines_death(start: Start, name: str) -> None:
    engine, subject = await start(name)
    running: list[asyncio.Task[Any]] = [
        asyncio.create_task(reply(engine, job(f"Number {i}", 300))) for i in range(STREAMS)
    ]
    await asyncio.sleep(0.1)
    await subject.crash(engine)
    async with asyncio.timeout(10):
        with pytest.raises(EngineDead):
            await _watch(engine)
    assert all(isinstance(r, EngineDead) for r in await asyncio.gather(*running, return_exceptions=True))
