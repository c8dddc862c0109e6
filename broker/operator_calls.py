"""What operators ask of the broker."""

from collections.abc import Mapping

from broker import keys, replies
from broker.letters import read_letters
from broker.shards import Shards
from broker.story import RequestView, Story, read_recent, read_story
from broker.submit import bounds_of
from broker.types import AccountState, DeadLetter, Directive, Interval, Limits, Page, RequestRef, UsageRow
from broker.usage import read_usage


class OperatorCalls(Shards):
    """See `broker.Broker`. Who did what is for the caller to tell `Broker.audit`."""

    async def usage(self, tenant: str, interval: Interval, start_ms: int, end_ms: int) -> list[UsageRow]:
        """What a tenant's requests used that ended in the intervals touched by start (inclusive) to end (exclusive).

        By time, key, pool and task. Times are ms since the epoch; what has expired is left out.
        """
        shard = self.shard_of(tenant)
        return await read_usage(self._shards[shard], shard, tenant, interval, start_ms, end_ms)

    async def account(self, tenant: str, key: str, model: str, limits: Limits) -> AccountState:
        """How much of an account is used now; `limits` say how fast its buckets leak, an unbounded one shows 0."""
        shard = self.shard_of(tenant)
        rates = bounds_of(limits)[:2]
        return replies.account_state(
            await self._shards[shard].run("account", [keys.account_hash(shard, tenant, key, model)], *rates)
        )

    async def story(self, ref: RequestRef) -> Story:
        """What happened to a request so far, for as long as its log lives. Raises RequestNotFound."""
        shard = self.shard_of(ref.tenant)
        return await read_story(self._shards[shard], shard, ref)

    async def recent(self, limit: int = 100, tenant: str | None = None) -> list[RequestView]:
        """Requests that were admitted last, of a tenant or of all, newest first, as they are now.

        Of each shard's last 200 or so, those that are still known: an ended one is forgotten after its resume window.
        """
        shards = range(self.options.shards) if tenant is None else [self.shard_of(tenant)]
        return await read_recent({shard: self._shards[shard] for shard in shards}, limit, tenant)

    async def direct(self, pool: str, worker: str, directive: Directive) -> None:
        """Says what a worker shall do; it obeys with its next heartbeat, also after a restart under its name."""
        await self._registry.direct(pool, worker, directive)

    async def directives(self, pool: str) -> Mapping[str, Directive]:
        """What workers of a pool shall do, by name, live or not; those not named shall serve."""
        return await self._registry.directives(pool)

    async def dead_letters(self, limit: int = 100, tenant: str | None = None, before_id: str = "") -> Page[DeadLetter]:
        """Dead letters before one, of a tenant or of all, newest first.

        Raises ValueError for a `before_id` that is no letter's.
        """
        shards = range(self.options.shards) if tenant is None else [self.shard_of(tenant)]
        return await read_letters({shard: self._shards[shard] for shard in shards}, limit, tenant, before_id)

    async def replay(self, ref: RequestRef) -> bool:
        """Queues a dead letter again, with attempts from 0 and no deadline; False if there is no such dead letter.

        It reserves in its accounts again, whatever their bounds.
        """
        return await self._settle_letter(ref, "replay")

    async def purge(self, ref: RequestRef) -> bool:
        """Forgets a dead letter and its prompt; False if there is no such dead letter."""
        return await self._settle_letter(ref, "purge")

    async def _settle_letter(self, ref: RequestRef, how: str) -> bool:
        shard = self.shard_of(ref.tenant)
        return bool(await self._shards[shard].run("replay", [keys.request(shard, ref)], keys.member(ref), how))
