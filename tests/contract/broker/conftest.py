"""A broker whose time stands still until the test moves it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from broker import Broker, BrokerOptions
from broker.scripts import load_scripts
from deploy.local.server import LocalServer
from tests.contract.broker.clock import FROZEN_CLOCK, Clock


@dataclass(frozen=True, slots=True)
class Still:
    """`other` is a second broker on the same server, as of another router."""

    broker: Broker
    other: Broker
    clock: Clock


@pytest.fixture
async def still(shared_server: LocalServer) -> AsyncIterator[Still]:
    """An empty server at noon of 2026-08-10."""
    options = BrokerOptions(url=shared_server.url, timeout_s=20)  # on a slow machine, too
    scripts = load_scripts(options, {"clock": FROZEN_CLOCK})
    async with Broker(options, scripts) as broker, Broker(options, scripts) as other:
        await broker._registry_pipeline.command("FLUSHALL")  # pyright: ignore[reportPrivateUsage]: production never flushes
        clock = Clock(broker)
        await clock.set("2026-08-10 12:00")
        yield Still(broker, other, clock)
