"""A fake server on loopback, and a client of each kind that does not wait long between attempts."""

from collections.abc import AsyncIterator, Iterator

import pytest

from bitlane import AsyncClient, Client, RetryPolicy
from bitlane.testing import FakeServer

FAST = RetryPolicy(initial_backoff=0.001, max_backoff=0.01)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BITLANE_TARGET", "BITLANE_API_KEY", "BITLANE_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.target, timeout=20, retry=FAST) as client:
        yield client


@pytest.fixture
def threaded_server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def sync_client(threaded_server: FakeServer) -> Iterator[Client]:
    with Client(threaded_server.target, timeout=20, retry=FAST) as client:
        yield client
