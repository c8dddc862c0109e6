"""Whether an engine lives, and telling all who wait for it when it does not."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

from workers.engine import EngineDead

_Item = TypeVar("_Item")


class Lifeline:
    """Starts as not started; `begin` and `lose` change that."""

    def __init__(self) -> None:
        self._death = "the engine has not been started"  # why it cannot work; empty while it can
        self._waiting: set[asyncio.Task[object]] = set()

    @property
    def death(self) -> str:
        """Why the engine cannot work; empty while it can."""
        return self._death

    def begin(self) -> None:
        self._death = ""

    def lose(self, why: str) -> None:
        """The engine is gone: all who wait for it learn so at once. What was said first stays."""
        if self._death:
            return
        self._death = why
        for task in self._waiting:
            task.cancel()

    def require(self) -> None:
        """Raises EngineDead unless the engine lives."""
        if self._death:
            raise EngineDead(self._death)

    async def next(self, stream: AsyncGenerator[_Item]) -> _Item:
        """The next item of what the engine gives; EngineDead as soon as the engine is lost, whatever the stream does.

        Raises:
            EngineDead: the engine is lost.
            StopAsyncIteration: the stream is at its end.
        """
        task = asyncio.current_task()
        assert task is not None
        self.require()
        self._waiting.add(task)
        try:
            return await anext(stream)
        except asyncio.CancelledError:
            # Cancelled by `lose`, or by somebody else, or by both.
            if self._death and task.uncancel() == 0:
                raise EngineDead(self._death) from None
            raise
        finally:
            self._waiting.discard(task)
