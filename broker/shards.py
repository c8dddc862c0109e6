"""What the calls of all roles share: the shards, each with its connections."""

import asyncio
from typing import Self

from broker import keys
from broker.audit import Audit
from broker.blocking import BlockingCalls
from broker.documents import Documents
from broker.endpoint import parse_endpoint
from broker.options import BrokerOptions
from broker.pipeline import OnRoundTrip, Pipeline
from broker.registry import Registry
from broker.scripts import Script, load_scripts


class Shards:
    """Holds the connections; see `broker.Broker`."""

    def __init__(
        self,
        options: BrokerOptions,
        scripts: dict[str, Script] | None = None,
        on_round_trip: OnRoundTrip | None = None,
    ) -> None:
        endpoint = parse_endpoint(options)
        scripts = scripts if scripts is not None else load_scripts(options)
        self.options = options
        self._shards = [Pipeline(endpoint, scripts, options.timeout_s, on_round_trip) for _ in range(options.shards)]
        self._registry_pipeline = Pipeline(endpoint, scripts, options.timeout_s, on_round_trip)
        self._registry = Registry(self._registry_pipeline, options)
        # A connection of its own: a cluster may keep the documents on another node than the registry.
        self._documents_pipeline = Pipeline(endpoint, scripts, options.timeout_s, on_round_trip)
        self.documents = Documents(self._documents_pipeline)
        self.audit = Audit(self._documents_pipeline)
        self._blocking = [BlockingCalls(pipeline, options.timeout_s) for pipeline in self._shards]

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
