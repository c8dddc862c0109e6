"""The registry of live workers, apart from the shards: a pool's workers serve the tenants of all of them."""

import asyncio

from broker import keys, replies
from broker.options import BrokerOptions
from broker.pipeline import Pipeline
from broker.types import WorkerInfo

# A worker that was silent for so many times `worker_ttl_ms` is forgotten; until then its return changes nothing.
_FORGET = 10


class Registry:
    """Workers by their last heartbeat, by the server's clock."""

    def __init__(self, pipeline: Pipeline, options: BrokerOptions) -> None:
        self._pipeline = pipeline
        self._ttl_ms = options.worker_ttl_ms

    async def register(self, info: WorkerInfo) -> None:
        keys.control(0, info.worker)  # checks the name
        description = replies.pack_worker(info)
        await self._pipeline.run("heartbeat", _keys(info.pool), info.worker, description, self._ttl_ms * _FORGET)

    async def unregister(self, pool: str, worker: str) -> None:
        workers, descriptions = _keys(pool)
        await asyncio.gather(
            self._pipeline.command("ZREM", workers, worker),
            self._pipeline.command("HDEL", descriptions, worker),
        )

    async def workers(self, pool: str) -> tuple[WorkerInfo, ...]:
        """Those whose last heartbeat is younger than `worker_ttl_ms`."""
        named = replies.strings(await self._pipeline.run("workers", _keys(pool), self._ttl_ms))
        return tuple(replies.worker(name, pool, text) for name, text in zip(named[::2], named[1::2], strict=True))


def _keys(pool: str) -> list[str]:
    return [keys.workers(pool), keys.worker_info(pool)]
