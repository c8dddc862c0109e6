"""What the router knows of the pools: a snapshot, read again a few times a second."""

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import replace

import structlog

from bitlane.v1 import inference_pb2 as pb
from broker.client import Broker
from broker.types import BrokerUnavailable, PoolState
from precision.decision import PoolView
from precision.profile import Precision
from router.config import Config, ModelConfig
from router.convert import pool_message

_log = structlog.get_logger("bitlane.router")
_PERIOD_S = 0.25


class PoolWatch:
    """The pools of every model, at most a fraction of a second old."""

    def __init__(self, broker: Broker, config: Config) -> None:
        self._broker = broker
        self._models = config.models
        self._names = [name for model in config.models for name in model.pool_names.values()]
        self._profiles: dict[bytes, pb.Profile] = {}
        self._take({})

    @property
    def states(self) -> Collection[PoolState]:
        """What is known of each pool; replaced as a whole, never changed."""
        return self._states.values()

    def views(self, model: ModelConfig) -> Mapping[Precision, PoolView]:
        """The model's pools, as the policy sees them; one that was never seen has no workers."""
        return self._views[model.name]

    def fp4_checkpoints(self, model: ModelConfig) -> frozenset[str]:
        """Digests of what the live workers of the model's FP4 pool serve; during a replacement more than one."""
        return self._checkpoints[model.name]

    def idle_views(self, model: ModelConfig) -> Mapping[Precision, PoolView]:
        """The same pools as if nothing waited and somebody worked in each: for decisions about other times."""
        views = self.views(model)
        return {
            p: replace(view, workers=max(1, view.workers), slots=max(1, view.slots), waiting=0)
            for p, view in views.items()
        }

    def messages(self, model: ModelConfig) -> list[pb.Pool]:
        """The same for the API."""
        return [pool_message(name, precision, self._states.get(name)) for precision, name in model.pool_names.items()]

    def _take(self, states: dict[str, PoolState]) -> None:
        """Takes over what was read, and works out what every request asks: that costs no more with many workers."""
        self._states = states
        self._views = {
            model.name: {precision: self._view(precision, name) for precision, name in model.pool_names.items()}
            for model in self._models
        }
        self._checkpoints = {
            model.name: self._digests(model.pool_names.get(Precision.FP4, "")) for model in self._models
        }

    def _digests(self, pool: str) -> frozenset[str]:
        state = self._states.get(pool)
        workers = state.workers if state else ()
        return frozenset(self._profile(worker.profile).checkpoint_digest for worker in workers)

    def _view(self, precision: Precision, name: str) -> PoolView:
        state = self._states.get(name)
        if state is None:
            return PoolView(name, precision, workers=0, slots=0, waiting=0, calibrated=False)
        serving = [worker for worker in state.workers if not (worker.draining or worker.ejected)]
        return PoolView(
            name=name,
            precision=precision,
            workers=len(serving),
            slots=sum(worker.slots for worker in serving),
            waiting=state.waiting,
            calibrated=all(self._profile(worker.profile).calibrated for worker in serving),
        )

    def _profile(self, profile: bytes) -> pb.Profile:
        known = self._profiles.get(profile)
        if known is None:
            if len(self._profiles) > 1024:  # workers come and go
                self._profiles.clear()
            known = self._profiles[profile] = pb.Profile.FromString(profile)
        return known

    async def refresh(self) -> None:
        """Reads the registry once.

        Raises:
            BrokerUnavailable
        """
        self._take({state.pool: state for state in await self._broker.pools(self._names)})

    async def run(self) -> None:
        """Refreshes until cancelled. While the broker is away the last snapshot stays."""
        away = False
        while True:
            try:
                await self.refresh()
            except BrokerUnavailable as error:
                if not away:
                    _log.warning("broker.away", error=str(error))
                away = True
            else:
                if away:
                    _log.info("broker.back")
                away = False
            await asyncio.sleep(_PERIOD_S * random.uniform(0.8, 1.2))
