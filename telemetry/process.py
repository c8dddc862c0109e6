"""What every process measures of itself."""

import asyncio

from telemetry import catalogue
from telemetry.instruments import Registry

_PERIOD_S = 0.25


class ProcessMetrics:
    """Round trips to Redis, and how late the event loop is."""

    def __init__(self, registry: Registry) -> None:
        self._round_trips = registry.histogram(catalogue.BROKER_DURATION)
        self._lag = registry.histogram(catalogue.LOOP_LAG)
        self._enabled = registry.enabled

    def round_trip(self, seconds: float, error: str = "") -> None:
        """Takes one round trip of a pipeline; `error` is the class of what went wrong, if anything did."""
        self._round_trips.record(seconds, ("redis", error))

    async def watch_event_loop(self) -> None:
        """Measures the lag a few times a second until cancelled."""
        loop = asyncio.get_running_loop()
        if not self._enabled:
            await loop.create_future()
        while True:
            due = loop.time() + _PERIOD_S
            await asyncio.sleep(_PERIOD_S)
            self._lag.record(max(0.0, loop.time() - due))
