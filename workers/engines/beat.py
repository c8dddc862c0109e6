"""The moments at which streams of an engine that gathers tokens are read again."""

import asyncio

from workers.pace import gap_s

# Engines step every few milliseconds: a shorter pause would gather nothing.
_WORTH_S = 0.01


class Beat:
    """Wakes all streams in one turn of the event loop, the more seldom the more of them there are.

    An engine's front end lives in the worker's process. Waking a task for each token of each stream is most of the work
    beside it, and takes the interpreter from it.
    """

    def __init__(self) -> None:
        self._next: asyncio.Event | None = None

    async def wait(self, streams: int) -> None:
        """Waits for the next beat while so many streams run; returns at once while they are few."""
        gap = gap_s(streams)
        if gap < _WORTH_S:
            return
        if self._next is None:
            self._next = asyncio.Event()
            asyncio.get_running_loop().call_later(gap, self._come)
        await self._next.wait()

    def _come(self) -> None:
        if self._next is not None:
            self._next.set()
            self._next = None
