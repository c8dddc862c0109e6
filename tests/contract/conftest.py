"""Real servers for the contract tests: every Redis-compatible binary that this machine has."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker import Broker, BrokerOptions
from deploy.local.server import LocalServer, find_binary

_BINARIES = {"embedded": find_binary()}
if (_redis := shutil.which("redis-server")) is not None:
    _BINARIES["redis"] = Path(_redis)


@pytest.fixture(scope="session", params=_BINARIES)
def server_binary(request: pytest.FixtureRequest) -> Path:
    """The binary of each kind of server in turn."""
    return _BINARIES[request.param]


@pytest.fixture(scope="session")
def shared_server(server_binary: Path) -> Iterator[LocalServer]:
    """One server for all tests that leave its process alone."""
    with LocalServer(binary=server_binary, port=0) as server:
        yield server


@pytest.fixture
def own_server(server_binary: Path) -> Iterator[LocalServer]:
    """A server that the test may kill, pause and restart. It writes what it holds to disk."""
    with LocalServer(binary=server_binary, durable=True) as server:
        yield server


@pytest.fixture
async def broker(shared_server: LocalServer) -> AsyncIterator[Broker]:
    """A broker on an empty server."""
    async with Broker(BrokerOptions(url=shared_server.url)) as broker:
        await broker._registry_pipeline.command("FLUSHALL")  # pyright: ignore[reportPrivateUsage]: production never flushes
        yield broker
