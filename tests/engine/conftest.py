"""Engines and models, each loaded once for all tests. All of these tests run in one event loop, the engines' own."""

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
import pytest_asyncio

from checkpoints.files import description_of
from workers.engines.reference import ReferenceEngine
from workers.engines.reference.loading import Loaded, load, packaged_checkpoint
from workers.engines.reference.sources import GgufSource

CONTEXT = 512

Start = Callable[[str], Coroutine[None, None, ReferenceEngine]]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small files of a checkpoint that says NVFP4; it has no weights."""
    folder = tmp_path_factory.mktemp("checkpoint")
    description_of(GgufSource(packaged_checkpoint())).write(folder, "NVFP4")
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def start() -> AsyncIterator[Start]:
    """Starts an engine of a profile, the first time that it is asked for."""
    engines: dict[str, ReferenceEngine] = {}

    async def started(profile: str) -> ReferenceEngine:
        if profile not in engines:
            engines[profile] = ReferenceEngine(profile, context_tokens=CONTEXT)
            await engines[profile].start()
        return engines[profile]

    yield started
    for engine in engines.values():
        await engine.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fp8(start: Start) -> ReferenceEngine:
    return await start("fp8")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nvfp4(start: Start) -> ReferenceEngine:
    return await start("nvfp4")


@pytest.fixture(scope="module", params=["fp8", "nvfp4"])
def loaded(request: pytest.FixtureRequest) -> Loaded:
    """A model by itself, below the engine."""
    return load(str(request.param), slots=16, context_tokens=2048)
