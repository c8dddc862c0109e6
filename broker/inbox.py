"""A router's inbox: one stream a shard, read in bulk."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from broker import keys, replies
from broker.blocking import BlockingCalls, pauses
from broker.connection import Reply
from broker.options import BrokerOptions
from broker.pace import read_gap_s
from broker.pipeline import Pipeline
from broker.types import BrokerUnavailable, ChunkEvent, EndEvent, Gap

InboxBatch: TypeAlias = list[ChunkEvent | EndEvent] | Gap

_COUNT = 1000
_BLOCK_MS = 1000


class InboxReader:
    """Keeps one shard's stream alive and passes on what arrives there.

    Ids are 0-1, 0-2, 0-3, ... and entries leave only at the front, so a batch that does not start right after the last
    one shows a loss. A stream that expired, or came back shorter after a crash, is made anew. Both give a `Gap`, and so
    does the very first stream, since chunks may have been written before it was there.
    """

    def __init__(
        self, shard: int, router: str, pipeline: Pipeline, blocking: BlockingCalls, options: BrokerOptions
    ) -> None:
        self._shard = shard
        self._key = keys.inbox(shard, router)
        self._pipeline = pipeline
        self._blocking = blocking
        self._ttl_ms = options.inbox_ttl_ms
        self._position = -1  # the last entry read; -1 before the stream was made

    async def read(self, put: Callable[[InboxBatch], Awaitable[None]], tried: asyncio.Event) -> None:
        """Reads until cancelled."""
        pause = pauses()
        while True:
            try:
                await self._keep(put)
                tried.set()
                await self._read_for(self._ttl_ms / 3000, put)
                pause = pauses()
            except BrokerUnavailable:
                tried.set()
                await asyncio.sleep(next(pause))

    async def _keep(self, put: Callable[[InboxBatch], Awaitable[None]]) -> None:
        if not await self._pipeline.run("inbox", [self._key], self._position, self._ttl_ms):
            self._position = 1  # the entry that opens the stream
            await put(Gap(self._shard))

    async def _read_for(self, seconds: float, put: Callable[[InboxBatch], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left_ms := int((until - loop.time()) * 1000)) > 0:
            block_ms = min(left_ms, _BLOCK_MS)
            reply = await self._blocking.run(
                *("XREAD", "COUNT", _COUNT, "BLOCK", block_ms, "STREAMS", self._key, f"0-{self._position}"),
                wait_s=block_ms / 1000,
            )
            if reply is not None:
                read_at = loop.time()
                events = await self._pass_on(reply, put)
                # What arrives sooner after these travels with those behind it.
                await asyncio.sleep(read_at + read_gap_s(events) - loop.time())

    async def _pass_on(self, reply: Reply, put: Callable[[InboxBatch], Awaitable[None]]) -> int:
        """The number of entries."""
        ((_, entries),) = cast("list[tuple[bytes, list[tuple[bytes, list[bytes]]]]]", reply)
        first, last = (int(entry[0].partition(b"-")[2]) for entry in (entries[0], entries[-1]))
        if first != self._position + 1 or last - first != len(entries) - 1:
            await put(Gap(self._shard))
        self._position = last
        await put([event for _, fields in entries if (event := replies.inbox_event(fields)) is not None])
        return len(entries)
