"""Commands that block the connection which sends them."""

import random
from collections.abc import Iterator, Sequence

from broker.connection import Argument, Connection, Disconnected, Reply, ServerError, pack
from broker.pipeline import Pipeline
from broker.types import BrokerUnavailable


class BlockingCalls:
    """Runs blocking commands against one shard, each on a connection that nobody else uses meanwhile."""

    def __init__(self, pipeline: Pipeline, timeout_s: float) -> None:
        self._pipeline = pipeline  # knows which node holds the shard
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []

    async def run(self, *command: Argument, wait_s: float) -> Reply:
        """Runs a command that the server may hold back for `wait_s` seconds.

        Raises BrokerUnavailable, after `wait_s + timeout_s` at the latest, and BrokerError for any other error reply.

        A caller that is cancelled closes its connection, and with it the server forgets the command.
        """
        (reply,) = await self.run_all([pack(*command)], wait_s=wait_s)
        return reply

    async def run_all(self, commands: Sequence[bytes], *, wait_s: float) -> list[Reply]:
        """Runs packed commands, of which the server may hold back the first; it goes on with the rest by itself.

        Fails as `run` does, whichever command the server refuses. A connection that was lost since its last command
        counts as lost now: the server that one would find in its place may have forgotten what the caller waits for.
        """
        connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                connection = await Connection.open(self._pipeline.endpoint, self._timeout_s)
            replies = await connection.run(b"".join(commands), len(commands), wait_s + self._timeout_s)
        except Disconnected as error:
            raise BrokerUnavailable(f"{self._pipeline.endpoint}: {error}") from error
        for reply in replies:
            if isinstance(reply, ServerError):
                connection.close()
                raise self._pipeline.error_of(reply)
        self._idle.append(connection)
        return replies

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()


def pauses() -> Iterator[float]:
    """Seconds to wait between attempts to reconnect: doubling up to a half, with jitter to spread processes."""
    longest = 0.02
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(longest * 2, 0.5)
