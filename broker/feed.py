"""Items from all shards as one asynchronous iterator."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

T = TypeVar("T")
Reader = Callable[[Callable[[T], Awaitable[None]], asyncio.Event], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


class Feed(Generic[T]):
    """Runs one reader a shard and yields what they put, in the order of arrival.

    Use it as `async with feed: async for item in feed`. A reader runs until it is cancelled, handles the server's
    absence itself, and sets its event after its first attempt to reach the server. When nobody takes the items, the
    readers wait: memory is bounded. Raises what a reader raised: BrokerError for what waiting will not cure.
    """

    def __init__(self, readers: Sequence[Reader[T]], capacity: int = 64) -> None:
        self._readers = readers
        self._items: asyncio.Queue[T | _Failure] = asyncio.Queue(capacity)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Starts the readers and waits for the first attempt of each, whether it reached the server or not."""
        if self._tasks:
            return
        tried = [asyncio.Event() for _ in self._readers]
        self._tasks = [
            asyncio.create_task(self._run(reader, event), name="broker-feed")
            for reader, event in zip(self._readers, tried, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in tried))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        await self.open()
        item = await self._items.get()
        if isinstance(item, _Failure):
            raise item.error
        return item

    async def _run(self, reader: Reader[T], tried: asyncio.Event) -> None:
        """A reader that fails tells whoever takes the items: nobody else would ever learn of it."""
        try:
            await reader(self._items.put, tried)
        except Exception as error:
            tried.set()
            await self._items.put(_Failure(error))
