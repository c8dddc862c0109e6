"""From the router's inbox to its streams: what arrives in bulk is handed to the readers of each request.

The inbox is a hint and the token log is the truth: a reader that sees a hole, was too slow for its buffer, or is told
that the inbox may have lost entries, reads on from the log.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from broker.client import Broker
from broker.feed import Feed
from broker.inbox import InboxBatch
from broker.types import (
    Attachment,
    BrokerUnavailable,
    ChunkEvent,
    EndEvent,
    Ending,
    Gap,
    IndexOutOfRange,
    RequestNotFound,
    RequestRef,
)
from router.faults import reply_lost, router_draining, unknown_request

_log = structlog.get_logger("bitlane.router")


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks that lie side by side in the log, the first with number `index`; then perhaps the end."""

    index: int
    chunks: tuple[bytes, ...]
    ending: Ending | None


class Reader:
    """One stream's view of one request: its chunks in order, each once, then its ending. One task reads it."""

    __slots__ = (
        *("grace_s", "next_index", "ref"),
        *("_broker", "_buffer_bytes", "_chunks", "_draining", "_ending", "_known", "_pausing", "_router", "_size"),
        *("_stale", "_waiting"),
    )

    def __init__(self, broker: Broker, router: str, ref: RequestRef, next_index: int, buffer_bytes: int) -> None:
        self.ref = ref
        self.next_index = next_index
        # How long the request goes on when this was its last reader; None: leaving changes nothing.
        self.grace_s: float | None = None
        self._broker = broker
        self._router = router
        self._buffer_bytes = buffer_bytes
        self._chunks: list[bytes] = []  # from next_index on
        self._size = 0  # of them, in bytes
        self._known = next_index  # the log is at least so long
        self._ending: Ending | None = None
        self._stale = False  # the inbox may have lost entries, or this router's place among the followers
        self._draining = False
        self._waiting: asyncio.Future[None] | None = None  # for anything to read
        self._pausing: asyncio.Future[None] | None = None  # for chunks to gather, or for the end

    @property
    def ending(self) -> Ending | None:
        """How the request ended, as soon as that is known."""
        return self._ending

    def push_chunk(self, event: ChunkEvent) -> None:
        """From the inbox. What is not the next chunk, or does not fit, is left to the log."""
        self._known = max(self._known, event.index + 1)
        fits = self._size + len(event.chunk) <= self._buffer_bytes
        if event.index == self.next_index + len(self._chunks) and fits:
            self._chunks.append(event.chunk)
            self._size += len(event.chunk)
        _wake(self._waiting)

    def push_ending(self, ending: Ending) -> None:
        self._ending = ending
        self._known = max(self._known, ending.next_index)
        _wake(self._waiting)
        _wake(self._pausing)

    def push_log(self, attachment: Attachment, start: int) -> None:
        """What the log holds from number `start` on, when it was read just now."""
        skip = self.next_index - start
        self._chunks = list(attachment.chunks[skip:]) if skip >= 0 else []
        self._size = sum(map(len, self._chunks))
        self._known = max(self._known, attachment.next_index)
        self._ending = self._ending or attachment.ending
        _wake(self._waiting)

    def mark_stale(self) -> None:
        self._stale = True
        _wake(self._waiting)

    def drain(self) -> None:
        """Makes `read` fail: the router is about to stop."""
        self._draining = True
        _wake(self._waiting)
        _wake(self._pausing)

    async def pause(self, seconds: float) -> None:
        """Lets chunks gather, for so long at most: not once the end is known, since nothing comes after it."""
        if self._ending or self._draining:
            return
        loop = asyncio.get_running_loop()
        self._pausing = loop.create_future()
        timer = loop.call_later(seconds, _wake, self._pausing)
        try:
            await self._pausing
        finally:
            timer.cancel()
            self._pausing = None

    async def read(self) -> Batch:
        """Waits for more, and takes all there is.

        Raises:
            Fault: UNAVAILABLE when the router drains; NOT_FOUND when the broker lost the request; ABORTED when it lost
                chunks that were taken already.
        """
        while True:
            if self._draining:
                raise router_draining()
            behind = self._known > self.next_index + len(self._chunks)
            if self._stale or (behind and not self._chunks):
                await self._read_log()
                continue
            if self._chunks or self._ending:
                return self._take()
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    def _take(self) -> Batch:
        chunks = tuple(self._chunks)
        index = self.next_index
        self.next_index += len(chunks)
        self._chunks.clear()
        self._size = 0
        return Batch(index, chunks, self._ending if self.next_index >= self._known else None)

    async def _read_log(self) -> None:
        follower = self._router if self._stale else ""
        self._stale = False
        start = self.next_index
        delay = 0.05
        while True:
            try:
                if follower:
                    attachment = await self._broker.attach(self.ref, follower, start)
                else:
                    attachment = await self._broker.read_log(self.ref, start)
            except RequestNotFound:
                raise unknown_request(self.ref.request_id) from None
            except IndexOutOfRange:
                raise reply_lost(self.ref.request_id) from None
            except BrokerUnavailable:
                # The client keeps its stream; work goes on when the broker is back.
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))
                delay = min(1.0, delay * 2)
            else:
                self.push_log(attachment, start)
                return


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Relay:
    """Hands the inbox's events to the readers."""

    def __init__(self, broker: Broker, router: str, buffer_bytes: int) -> None:
        self.router = router
        self._broker = broker
        self._buffer_bytes = buffer_bytes
        self._readers: dict[RequestRef, list[Reader]] = {}
        self.open_readers = 0  # of all requests together

    @property
    def readers(self) -> Mapping[RequestRef, list[Reader]]:
        """Open readers by request."""
        return self._readers

    def open(self, ref: RequestRef, next_index: int = 0) -> Reader:
        """A reader from a chunk on. Open it before the broker is told of this router, so that nothing is missed."""
        reader = Reader(self._broker, self.router, ref, next_index, self._buffer_bytes)
        self._readers.setdefault(ref, []).append(reader)
        self.open_readers += 1
        return reader

    def close(self, reader: Reader) -> bool:
        """Forgets the reader; true when it was the request's last one here."""
        others = self._readers[reader.ref]
        others.remove(reader)
        self.open_readers -= 1
        if others:
            return False
        del self._readers[reader.ref]
        return True

    def drain(self) -> None:
        """Ends every open reader."""
        for readers in self._readers.values():
            for reader in readers:
                reader.drain()

    async def run(self, inbox: Feed[InboxBatch]) -> None:
        """Reads the inbox until cancelled."""
        async for batch in inbox:
            if isinstance(batch, Gap):
                self._mark_stale(batch.shard)
                continue
            for event in batch:
                for reader in self._readers.get(event.ref, ()):
                    if isinstance(event, EndEvent):
                        reader.push_ending(event.ending)
                    else:
                        reader.push_chunk(event)

    def _mark_stale(self, shard: int) -> None:
        stale = [
            r for readers in self._readers.values() for r in readers if self._broker.shard_of(r.ref.tenant) == shard
        ]
        for reader in stale:
            reader.mark_stale()
        if stale:
            _log.warning("inbox.gap", shard=shard, streams=len(stale))
