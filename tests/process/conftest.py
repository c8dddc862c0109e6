"""Real processes: an embedded server, routers and workers with the scripted engine, on loopback."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest

import bitlane
from deploy.local.stack import Stack
from tests.process.scripted import ACME

StackMaker = Callable[..., Stack]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack for tests that break nothing: 3 ms a token, the turn ends after 200 tokens."""
    with Stack(engine="scripted", engine_options='{"token_ms": 3, "tokens": 200}') as stack:
        yield stack.start()


@pytest.fixture
def make_stack() -> Iterator[StackMaker]:
    """Makes stacks of a test's own, with short leases, to be killed at will."""
    with ExitStack() as stacks:

        def make(**options: object) -> Stack:
            arguments = {"engine": "scripted", "lease_ms": 600} | options
            return stacks.enter_context(Stack(**arguments)).start()  # type: ignore[arg-type]  # as Stack takes them

        yield make


@pytest.fixture
async def acme(stack: Stack) -> AsyncIterator[bitlane.AsyncClient]:
    async with bitlane.AsyncClient(stack.target, api_key=ACME) as client:
        yield client
