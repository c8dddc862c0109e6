"""The broker, as routers and workers use it."""

import asyncio
import math
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Self, cast

from broker import keys, replies
from broker.audit import Audit
from broker.blocking import BlockingCalls
from broker.connection import Reply
from broker.documents import Documents
from broker.endpoint import parse_endpoint
from broker.feed import Feed
from broker.inbox import InboxBatch, InboxReader
from broker.options import BrokerOptions
from broker.pipeline import Pipeline
from broker.registry import Registry
from broker.scripts import Script, load_scripts
from broker.signals import read_endings, wait_for_any
from broker.types import (
    Attachment,
    Claim,
    DeadLetter,
    Ending,
    Held,
    IndexOutOfRange,
    Lease,
    LeaseEnded,
    Limit,
    Outcome,
    OverLimit,
    PoolState,
    Reclaimed,
    RequestNotFound,
    RequestRef,
    Submission,
    SubmitResult,
    SubmitStatus,
    Usage,
    WorkerInfo,
)


class Broker:
    """All transitions of a request, and the registry of workers.

    Every method raises BrokerUnavailable when the server is away, hangs or refuses for now, within
    `BrokerOptions.timeout_s`; the next call tries again, so an object lives as long as its process. A call that failed
    so may have taken effect. All are safe to repeat: a repeated submit joins, a repeated append, finish or release is
    answered as the first, and what a lost claim gave out returns when the lease runs out.

    Calls made at the same time share a round trip. `scripts` replaces the transitions, for instance with another clock.
    """

    def __init__(self, options: BrokerOptions, scripts: dict[str, Script] | None = None) -> None:
        endpoint = parse_endpoint(options)
        scripts = scripts if scripts is not None else load_scripts(options)
        self.options = options
        self._shards = [Pipeline(endpoint, scripts, options.timeout_s) for _ in range(options.shards)]
        self._registry_pipeline = Pipeline(endpoint, scripts, options.timeout_s)
        self._registry = Registry(self._registry_pipeline, options)
        # A connection of its own: a cluster may keep the documents on another node than the registry.
        self._documents_pipeline = Pipeline(endpoint, scripts, options.timeout_s)
        self.documents = Documents(self._documents_pipeline)
        self.audit = Audit(self._documents_pipeline)
        self._blocking = [BlockingCalls(pipeline, options.timeout_s) for pipeline in self._shards]
        self._first_shard = 0  # where the next claim starts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections. Calls under way, and later ones, raise BrokerUnavailable."""
        pipelines = (*self._shards, self._registry_pipeline, self._documents_pipeline)
        await asyncio.gather(*(pipeline.close() for pipeline in pipelines))
        for blocking in self._blocking:
            blocking.close()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn of the loop

    def shard_of(self, tenant: str) -> int:
        """The shard that a `Gap` names."""
        return keys.shard_of(tenant, self.options.shards)

    # What a router does.

    async def submit(self, submission: Submission) -> SubmitResult:
        """Stores and queues a request; the same id again joins it, or conflicts if the digest differs."""
        ref, pool = submission.ref, submission.pool
        shard = self.shard_of(ref.tenant)
        keys.queue(shard, pool, ref.tenant)  # checks the names
        keys.inbox(shard, submission.router)
        _check(submission)
        status, waiting = replies.array(
            await self._shards[shard].run(
                "submit",
                [keys.request(shard, ref)],
                keys.member(ref),
                ref.tenant,
                pool,
                submission.digest,
                submission.job,
                submission.decision,
                submission.router,
                submission.timeout_ms or 0,
                submission.prompt_tokens,
                submission.output_tokens,
                submission.priority.value,
                submission.weight,
                int(submission.migratable),
                _queued_bound(submission),
            )
        )
        if status == b"queue_full":
            account = submission.accounts[0]
            bound = account.limits.queued_requests or 0
            over = OverLimit(account, Limit.QUEUED_REQUESTS, bound, replies.integer(waiting), 1, None)
            return SubmitResult(SubmitStatus.OVER_LIMIT, replies.integer(waiting), over)
        return SubmitResult(SubmitStatus(cast("bytes", status).decode()), replies.integer(waiting))

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

    # What a worker does.

    async def claim(self, pool: str, worker: str, profile: bytes, limit: int) -> list[Claim]:
        """Takes up to `limit` waiting requests of a pool. Requests found past their deadline end on the way."""
        keys.control(0, worker)  # checks the name
        claims: list[Claim] = []
        self._first_shard = (self._first_shard + 1) % self.options.shards
        for turn in range(self.options.shards):
            if len(claims) >= limit:
                break
            shard = (self._first_shard + turn) % self.options.shards
            reply = await self._shards[shard].run(
                "claim", [keys.pool(shard, pool)], pool, worker, profile, limit - len(claims)
            )
            claims += [replies.claim(entry, pool, worker) for entry in replies.array(reply)]
        return claims

    async def append(
        self,
        lease: Lease,
        index: int,
        chunk: bytes,
        tokens: int,
        prompt_tokens: int = 0,
        cached_prompt_tokens: int = 0,
    ) -> Held:
        """Logs a chunk of `tokens` output tokens and renews the lease; nothing is written unless the answer is YES.

        `prompt_tokens` are the engine's count, of which `cached_prompt_tokens` needed no work; 0 when not known yet.
        They become the usage of a request that is cancelled or meets its deadline. Repeating a chunk is harmless.
        Raises IndexOutOfRange for an index that leaves a hole, ChunkConflict for one that holds other bytes.
        """
        shard = self.shard_of(lease.ref.tenant)
        reply = await self._shards[shard].run(
            "append",
            [keys.request(shard, lease.ref), keys.log(shard, lease.ref), keys.lease(shard, lease.pool)],
            keys.member(lease.ref),
            lease.epoch,
            index,
            chunk,
            tokens,
            prompt_tokens,
            cached_prompt_tokens,
        )
        return replies.written(reply, index)

    async def renew(self, lease: Lease) -> Held:
        """Extends a lease to `lease_ms` from now. Past the request's deadline it ends the request instead."""
        shard = self.shard_of(lease.ref.tenant)
        lease_keys = [keys.request(shard, lease.ref), keys.lease(shard, lease.pool)]
        return replies.held(await self._shards[shard].run("renew", lease_keys, keys.member(lease.ref), lease.epoch))

    async def finish(
        self,
        lease: Lease,
        index: int,
        chunk: bytes | None,
        tokens: int,
        outcome: Outcome,
        detail: str,
        usage: Usage,
    ) -> Held:
        """Ends a request with its last chunk, if there is one; `index` is that chunk's, or else the log's length.

        Raises IndexOutOfRange and ChunkConflict as `append` does.
        """
        if outcome is Outcome.ATTEMPTS_EXHAUSTED:
            raise ValueError("a worker gives a failed request back with release(failed=True); the broker counts")
        shard = self.shard_of(lease.ref.tenant)
        reply = await self._shards[shard].run(
            "finish",
            [keys.request(shard, lease.ref), keys.log(shard, lease.ref), keys.lease(shard, lease.pool)],
            keys.member(lease.ref),
            lease.epoch,
            index,
            int(chunk is not None),
            chunk or b"",
            tokens,
            outcome.value,
            detail.encode(errors="replace"),
            usage.prompt_tokens,
            usage.cached_prompt_tokens,
            usage.output_tokens,
        )
        return replies.written(reply, index)

    async def release(self, lease: Lease, failed: bool, detail: str = "") -> Held:
        """Gives a request back to its place in the queue. A failed attempt counts towards `max_attempts`.

        At that count the request becomes a dead letter with `detail`, which must hold no prompt text. A request that
        cannot migrate and has chunks ends as NOT_MIGRATABLE.
        """
        shard = self.shard_of(lease.ref.tenant)
        reply = await self._shards[shard].run(
            "release",
            [keys.request(shard, lease.ref)],
            keys.member(lease.ref),
            lease.epoch,
            int(failed),
            detail.encode(errors="replace"),
        )
        return replies.held(reply)

    async def reclaim(self, pool: str, limit: int = 100) -> list[Reclaimed]:
        """Takes back up to `limit` requests a shard whose lease ran out, as failed attempts. Anyone may call it."""
        answers = await asyncio.gather(
            *(pipeline.run("reclaim", [keys.lease(s, pool)], limit) for s, pipeline in enumerate(self._shards))
        )
        return [replies.reclaimed(entry) for reply in answers for entry in replies.array(reply)]

    async def wait_for_work(self, pool: str, wait_s: float) -> bool:
        """Waits up to `wait_s` seconds until work may be waiting in a pool; False if the time ran out.

        A True is a hint: another worker may be faster. Call it with a free slot only, and claim after a True: the claim
        rings for the next worker if it leaves work behind. BrokerUnavailable comes after `wait_s + timeout_s`.
        """
        return await wait_for_any(self._blocking, [keys.bell(s, pool) for s in range(self.options.shards)], wait_s)

    def endings(self, worker: str) -> Feed[LeaseEnded]:
        """Which requests were ended, or taken away, under a worker, as soon as it happens. Reconnects by itself.

        What is lost while the server is away shows at the next append or renewal.
        """
        return Feed(
            [partial(read_endings, blocking, keys.control(s, worker)) for s, blocking in enumerate(self._blocking)]
        )

    # The registry of workers.

    async def register(self, info: WorkerInfo) -> None:
        """Says that a worker lives; to be repeated well within `worker_ttl_ms`."""
        await self._registry.register(info)

    async def unregister(self, pool: str, worker: str) -> None:
        """Removes a worker from its pool at once."""
        await self._registry.unregister(pool, worker)

    async def pools(self, names: Sequence[str]) -> list[PoolState]:
        """Live workers, waiting requests and leases of each named pool, in the order of the names."""
        return list(await asyncio.gather(*(self._pool_state(name) for name in names)))

    async def _pool_state(self, pool: str) -> PoolState:
        workers, waiting, running = await asyncio.gather(
            self._registry.workers(pool),
            asyncio.gather(*(p.command("HGET", keys.pool(s, pool), "waiting") for s, p in enumerate(self._shards))),
            asyncio.gather(*(p.command("ZCARD", keys.lease(s, pool)) for s, p in enumerate(self._shards))),
        )
        return PoolState(pool, workers, sum(map(replies.integer, waiting)), sum(map(replies.integer, running)))

    # What an operator does.

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The newest dead letters, newest first, up to `limit` of each shard."""
        answers = await asyncio.gather(
            *(p.command("XREVRANGE", keys.dead(s), "+", "-", "COUNT", limit) for s, p in enumerate(self._shards))
        )
        letters = [replies.dead_letter(entry) for reply in answers for entry in replies.array(reply)]
        return sorted(letters, key=lambda letter: letter.died_ms, reverse=True)

    async def replay(self, ref: RequestRef) -> bool:
        """Queues a dead letter again, with attempts from 0 and no deadline; False if there is no such dead letter."""
        return await self._settle_letter(ref, "replay")

    async def purge(self, ref: RequestRef) -> bool:
        """Forgets a dead letter and its prompt; False if there is no such dead letter."""
        return await self._settle_letter(ref, "purge")

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

    async def _settle_letter(self, ref: RequestRef, how: str) -> bool:
        shard = self.shard_of(ref.tenant)
        return bool(await self._shards[shard].run("replay", [keys.request(shard, ref)], keys.member(ref), how))

    def _cancel(self, ref: RequestRef, router: str) -> Awaitable[Reply]:
        shard = self.shard_of(ref.tenant)
        return self._shards[shard].run("cancel", [keys.request(shard, ref)], keys.member(ref), router)


def _queued_bound(submission: Submission) -> int:
    for account in submission.accounts:
        if account.limits.queued_requests is not None:
            return account.limits.queued_requests
    return 1 << 53


def _check(submission: Submission) -> None:
    """What would break the books if it were stored. Raises ValueError."""
    if not 0 < submission.weight < math.inf:
        raise ValueError(f"Submission.weight must be above 0 and finite, not {submission.weight}")
    if submission.timeout_ms is not None and submission.timeout_ms <= 0:
        raise ValueError(f"Submission.timeout_ms must be above 0 or None, not {submission.timeout_ms}")
    if submission.prompt_tokens < 0 or submission.output_tokens < 0:
        raise ValueError("Submission.prompt_tokens and output_tokens must not be negative")
