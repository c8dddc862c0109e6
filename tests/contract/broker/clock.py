"""Time in the test's hand: the scripts read it from a key instead of the server's clock."""

from datetime import UTC, datetime

from broker import Broker

FROZEN_CLOCK = "local function now_ms() return tonumber(redis.call('GET', TAG .. 'clock')) end\n"


class Clock:
    """The time of a broker with one shard whose scripts were loaded with FROZEN_CLOCK."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.now = 0

    async def set(self, now: int | str) -> None:
        """ms since the epoch, or a time of UTC such as '2028-02-29 23:59'."""
        self.now = now if isinstance(now, int) else ms(now)
        for tag in ("0", "workers", "documents"):
            await self._broker._shards[0].command("SET", f"bl:{{{tag}}}:clock", self.now)  # pyright: ignore[reportPrivateUsage]

    async def go_on(self, by_ms: int) -> None:
        await self.set(self.now + by_ms)


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
