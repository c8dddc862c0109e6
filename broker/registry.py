"""The registry of live workers, and what operators want of them.

It is apart from the shards: a pool's workers serve the tenants of all of them.
"""

import asyncio

from broker import keys, replies
from broker.options import BrokerOptions
from broker.pipeline import Pipeline
from broker.types import Directive, Fitness, Orders, WorkerInfo

# A worker that was silent for so many times `worker_ttl_ms` is forgotten; until then its return changes nothing.
_FORGET = 10


class Registry:
    """Workers by their last heartbeat, by the server's clock."""

    def __init__(self, pipeline: Pipeline, options: BrokerOptions) -> None:
        self._pipeline = pipeline
        self._ttl_ms = options.worker_ttl_ms

    async def register(self, info: WorkerInfo, fitness: Fitness) -> Orders:
        keys.control(0, info.worker)  # checks the name
        return replies.orders(
            await self._pipeline.run(
                "heartbeat",
                [*_keys(info.pool), keys.directives(info.pool), keys.fitness(info.pool)],
                info.worker,
                replies.pack_worker(info),
                self._ttl_ms * _FORGET,
                self._ttl_ms,
                int(not info.draining),
                fitness.attempts,
                fitness.failed,
                f"{fitness.tokens_per_s:.6g}",
            )
        )

    async def unregister(self, pool: str, worker: str) -> None:
        workers, descriptions = _keys(pool)
        await asyncio.gather(
            self._pipeline.command("ZREM", workers, worker),
            self._pipeline.command("HDEL", descriptions, worker),
            self._pipeline.command("HDEL", keys.fitness(pool), worker),
        )

    async def direct(self, pool: str, worker: str, directive: Directive) -> None:
        keys.control(0, worker)  # checks the name
        if directive is Directive.SERVE:
            await self._pipeline.command("HDEL", keys.directives(pool), worker)
        else:
            await self._pipeline.command("HSET", keys.directives(pool), worker, directive.value)

    async def directives(self, pool: str) -> dict[str, Directive]:
        flat = replies.strings(await self._pipeline.command("HGETALL", keys.directives(pool)))
        return {name.decode(): Directive(wanted.decode()) for name, wanted in zip(flat[::2], flat[1::2], strict=True)}

    async def workers(self, pool: str) -> tuple[WorkerInfo, ...]:
        """Those whose last heartbeat is younger than `worker_ttl_ms`."""
        named = replies.strings(await self._pipeline.run("workers", _keys(pool), self._ttl_ms))
        return tuple(replies.worker(name, pool, text) for name, text in zip(named[::2], named[1::2], strict=True))


def _keys(pool: str) -> list[str]:
    return [keys.workers(pool), keys.worker_info(pool)]
