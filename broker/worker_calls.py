"""What workers ask of the broker."""

import asyncio
import math
from contextlib import suppress
from functools import partial

from broker import keys, replies
from broker.connection import pack
from broker.feed import Feed
from broker.options import BrokerOptions
from broker.pipeline import OnRoundTrip
from broker.scripts import Script
from broker.shards import Shards
from broker.signals import done_before, read_endings, wait_for_any
from broker.types import (
    BrokerUnavailable,
    Claim,
    Fitness,
    Held,
    Lease,
    LeaseEnded,
    Orders,
    Outcome,
    Reclaimed,
    ScriptUnknown,
    Usage,
    WorkerInfo,
)

_UNKNOWN = Fitness()


class WorkerCalls(Shards):
    """See `broker.Broker`."""

    def __init__(
        self,
        options: BrokerOptions,
        scripts: dict[str, Script] | None = None,
        on_round_trip: OnRoundTrip | None = None,
    ) -> None:
        super().__init__(options, scripts, on_round_trip)
        self._first_shard = 0  # where the next claim starts

    async def claim(self, pool: str, worker: str, profile: bytes, limit: int, avoid_ms: int = 0) -> list[Claim]:
        """Takes up to `limit` waiting requests of a pool. Requests found past their deadline end on the way.

        For `avoid_ms` after this worker failed on a request, that one is left to others.
        """
        keys.control(0, worker)  # checks the name
        claims: list[Claim] = []
        self._first_shard = (self._first_shard + 1) % self.options.shards
        for turn in range(self.options.shards):
            if len(claims) >= limit:
                break
            shard = (self._first_shard + turn) % self.options.shards
            reply = await self._shards[shard].run(
                "claim", [keys.pool(shard, pool)], pool, worker, profile, limit - len(claims), avoid_ms
            )
            claims += [replies.claim(entry, pool, worker) for entry in replies.array(reply)]
        return claims

    async def claim_next(
        self,
        pool: str,
        worker: str,
        profile: bytes,
        limit: int,
        wait_s: float,
        leave: asyncio.Event,
        avoid_ms: int = 0,
    ) -> list[Claim]:
        """As `claim`, but waits up to `wait_s` seconds for work to come; call it with a free slot only.

        It may come back sooner with nothing, when another worker was faster or all that waits is left to others.

        Args:
            leave: once it is set the wait ends. What was claimed in that moment comes back all the same.
        """
        if self.options.shards == 1:
            return await self._claim_when_rung(pool, worker, profile, limit, wait_s, leave, avoid_ms)
        claims = await self.claim(pool, worker, profile, limit, avoid_ms)
        if claims or not await done_before(leave, self.wait_for_work(pool, wait_s)):
            return claims
        return await self.claim(pool, worker, profile, limit, avoid_ms)

    async def _claim_when_rung(
        self, pool: str, worker: str, profile: bytes, limit: int, wait_s: float, leave: asyncio.Event, avoid_ms: int
    ) -> list[Claim]:
        """Waits for the bell and claims in one round trip: the server goes on to the claim when the bell rings.

        So nobody who was woken dies before it claims, and the claim that follows a wait in vain finds what a lost token
        has left waiting. With several shards it would take more than `limit`, if several bells ring at once.
        """
        pipeline, left = self._shards[0], keys.leave(0, worker)
        commands = [
            pack("BLPOP", keys.bell(0, pool), left, max(wait_s, 0.001)),  # 0 means for ever
            pipeline.packed("claim", [keys.pool(0, pool)], pool, worker, profile, limit, avoid_ms),
        ]
        leaving = asyncio.create_task(self._leave_when(leave, left, wait_s))
        try:
            _, claimed = await self._blocking[0].run_all(commands, wait_s=wait_s)
        except ScriptUnknown:
            return await self.claim(pool, worker, profile, limit, avoid_ms)  # which makes it known
        finally:
            leaving.cancel()
        return [replies.claim(entry, pool, worker) for entry in replies.array(claimed)]

    async def _leave_when(self, leave: asyncio.Event, left: str, wait_s: float) -> None:
        """By a token, not by closing the connection: the server may have claimed, and its answer be on the way."""
        await leave.wait()
        pipeline = self._shards[0]
        with suppress(BrokerUnavailable):  # then the wait fails as well
            await asyncio.gather(
                pipeline.command("RPUSH", left, "1"), pipeline.command("PEXPIRE", left, math.ceil(wait_s * 1000))
            )

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

    async def release(self, lease: Lease, failed: bool, detail: str = "", *, shared: bool = False) -> Held:
        """Gives a request back to its place in the queue. A failed attempt counts towards `max_attempts`.

        `shared`: all that ran there failed with it, so that one which has logged a chunk is blamed for this time only.

        At that count the request becomes a dead letter with `detail`, which must hold no prompt text. A request that
        cannot migrate and has chunks ends as NOT_MIGRATABLE.
        """
        shard = self.shard_of(lease.ref.tenant)
        reply = await self._shards[shard].run(
            "release",
            [keys.request(shard, lease.ref)],
            keys.member(lease.ref),
            lease.epoch,
            int(failed) + (failed and shared),
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

    async def register(self, info: WorkerInfo, fitness: Fitness = _UNKNOWN) -> Orders:
        """Says that a worker lives and how it does; to be repeated well within `worker_ttl_ms`.

        Returns what operators want of it, and whether it is ejected, by comparison with the other workers of its pool.
        """
        return await self._registry.register(info, fitness)

    async def unregister(self, pool: str, worker: str) -> None:
        """Removes a worker from its pool at once; what operators want of one with its name stays."""
        await self._registry.unregister(pool, worker)
