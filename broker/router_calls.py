"""What routers ask of the broker."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import cast

from broker import keys, replies
from broker.connection import Reply
from broker.feed import Feed
from broker.inbox import InboxBatch, InboxReader
from broker.shards import Shards
from broker.submit import submit_arguments, submit_result
from broker.types import (
    Attachment,
    Ending,
    IndexOutOfRange,
    PoolState,
    RequestNotFound,
    RequestRef,
    Submission,
    SubmitResult,
)


class RouterCalls(Shards):
    """See `broker.Broker`."""

    async def submit(self, submission: Submission) -> SubmitResult:
        """Stores and queues a request that all its accounts admit; a refused one leaves no trace.

        The same id again joins the request, or conflicts if the digest differs, and costs nothing. `pool_max_waiting`
        and the estimate of when its turn comes are about the tenant's shard alone.
        """
        shard = self.shard_of(submission.ref.tenant)
        arguments = submit_arguments(shard, submission)
        reply = await self._shards[shard].run("submit", [keys.request(shard, submission.ref)], *arguments)
        return submit_result(submission, reply)

    async def attach(self, ref: RequestRef, router: str, next_index: int) -> Attachment:
        """Lets a router follow a request, and reads its log from an index on; later chunks come by the router's inbox.

        Raises RequestNotFound, or IndexOutOfRange when `next_index` is beyond the log's end.
        """
        keys.inbox(self.shard_of(ref.tenant), router)  # checks the name
        return await self._read(ref, router, next_index)

    async def read_log(self, ref: RequestRef, next_index: int) -> Attachment:
        """As `attach`, but nobody follows the request for it."""
        return await self._read(ref, "", next_index)

    async def cancel(self, ref: RequestRef) -> Ending:
        """Ends a request, whether it waits or runs. Returns its ending: the old one if it had ended before.

        Raises RequestNotFound.
        """
        reply = await self._cancel(ref, "")
        if reply is None:
            raise RequestNotFound(f"request {ref.request_id!r} is not known")
        return replies.ending(replies.strings(reply))

    async def abandon(self, ref: RequestRef, router: str) -> Ending | None:
        """Says that a router no longer follows a request; the last live one to leave cancels it.

        Returns the ending if the request has ended, by this call or before; None if others follow it or it is gone.
        """
        keys.inbox(self.shard_of(ref.tenant), router)  # checks the name
        reply = await self._cancel(ref, router)
        return replies.ending(replies.strings(reply)) if reply else None

    def inbox(self, router: str) -> Feed[InboxBatch]:
        """What happens to the requests that a router follows: batches of events, or a Gap.

        Open it (`async with`) before the first submit: events for an inbox that does not exist are dropped. It
        reconnects by itself. After a Gap, of which the first comes at the start, attach again to every followed stream
        of that shard from the index it has got to; events may then repeat chunks that the attachment held.
        """
        readers = [
            InboxReader(shard, router, pipeline, self._blocking[shard], self.options)
            for shard, pipeline in enumerate(self._shards)
        ]
        return Feed([reader.read for reader in readers])

    async def pools(self, names: Sequence[str]) -> list[PoolState]:
        """Live workers, waiting requests and leases of each named pool, in the order of the names."""
        return list(await asyncio.gather(*(self._pool_state(name) for name in names)))

    async def _pool_state(self, pool: str) -> PoolState:
        workers, states = await asyncio.gather(
            self._registry.workers(pool),
            asyncio.gather(*(p.run("pool", [keys.pool(s, pool)], pool) for s, p in enumerate(self._shards))),
        )
        return replies.pool_state(pool, workers, states)

    async def _read(self, ref: RequestRef, router: str, next_index: int) -> Attachment:
        if next_index < 0:
            raise IndexOutOfRange(next_index, 0)
        shard = self.shard_of(ref.tenant)
        request_keys = [keys.request(shard, ref), keys.log(shard, ref)]
        reply = await self._shards[shard].run("attach", request_keys, keys.member(ref), router, next_index)
        if reply is None:
            raise RequestNotFound(f"request {ref.request_id!r} is not known")
        if isinstance(reply, int):
            raise IndexOutOfRange(next_index, reply)
        decision, length, chunks, ending = replies.array(reply)
        return Attachment(
            decision=cast("bytes", decision),
            chunks=tuple(replies.strings(chunks)),
            next_index=replies.integer(length),
            ending=replies.ending(replies.strings(ending)) if ending is not None else None,
        )

    def _cancel(self, ref: RequestRef, router: str) -> Awaitable[Reply]:
        shard = self.shard_of(ref.tenant)
        return self._shards[shard].run("cancel", [keys.request(shard, ref)], keys.member(ref), router)
