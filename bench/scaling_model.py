"""How many routers, shards and GPUs a number of streams needs, and how long a token waits in such a fleet.

The arithmetic divides a load by what one core does. The simulation sends every token of some seconds through two
queues, its shard's and its router's, each a core that serves one after the other: what waits there shows what an
average hides, and what hashing does that puts tenants on shards by their name.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.scaling_costs import GAP_MS, Costs
from broker.keys import shard_of

Floats = NDArray[np.float64]

TOKENS_A_SECOND = 1000 / GAP_MS  # of a stream
# Share of a core that is planned for; what is above is for bursts, and for the loss of one of its kind.
ROUTER_TARGET, SHARD_TARGET = 0.65, 0.60


@dataclass(frozen=True, slots=True)
class Gpu:
    """Tokens a second of one GPU under full load, from what its maker or MLPerf has published."""

    name: str
    tokens_a_second: float
    source: str


GPUS = (
    Gpu("B200, FP4, Llama 2 70B", 98_858 / 8, "MLPerf v5.0 offline, 8 GPUs"),
    Gpu("H200, FP8, Llama 2 70B", 34_988 / 8, "MLPerf v5.0 offline, 8 GPUs"),
)


@dataclass(frozen=True, slots=True)
class Load:
    """Streams that run at the same time."""

    streams: int
    output_tokens: int = 256  # of a request
    tenants: int = 1_000
    skew: float = 1.0  # of a Zipf law: the first tenant has this many times the n-th one's streams, to the n

    @property
    def tokens_a_second(self) -> float:
        return self.streams * TOKENS_A_SECOND

    @property
    def requests_a_second(self) -> float:
        return self.tokens_a_second / self.output_tokens

    def by_tenant(self) -> Floats:
        """Streams of each tenant."""
        weights = np.arange(1, self.tenants + 1, dtype=np.float64) ** -self.skew
        return self.streams * weights / weights.sum()


@dataclass(frozen=True, slots=True)
class Fleet:
    """Processes, each with a core of its own."""

    routers: int
    shards: int


def cores(costs: Costs, load: Load) -> tuple[float, float]:
    """Busy cores of all routers together, and of all shards."""
    requests, tokens = load.requests_a_second, load.tokens_a_second
    routers = (requests * costs.router_request_us + tokens * costs.router_token_us) / 1e6
    shards = (requests * costs.server_request_us + tokens * costs.server_token_us) / 1e6
    return routers, shards


def planned(costs: Costs, load: Load) -> Fleet:
    """Enough of each for its target, were the load spread evenly; two routers at least."""
    routers, shards = cores(costs, load)
    return Fleet(max(2, math.ceil(routers / ROUTER_TARGET)), max(1, math.ceil(shards / SHARD_TARGET)))


def gpus(gpu: Gpu, load: Load) -> int:
    return math.ceil(load.tokens_a_second / gpu.tokens_a_second)


def streams_of_one(costs: Costs) -> tuple[float, float]:
    """How many streams fit one router and one shard, at their targets."""
    routers, shards = cores(costs, Load(1_000))
    return 1_000 * ROUTER_TARGET / routers, 1_000 * SHARD_TARGET / shards


def busiest_shard(load: Load, shards: int) -> float:
    """The largest shard's part of the load over the mean one's."""
    parts = np.zeros(shards)
    np.add.at(parts, _shards_of_tenants(load, shards), load.by_tenant())
    return float(parts.max() / parts.mean())


def simulate(costs: Costs, load: Load, fleet: Fleet, seconds: float = 4.0, seed: int = 0) -> Floats:
    """Milliseconds that each token took through its shard and its router.

    Requests pass the same queues. Costs are constant, though batches make a token cheaper the more there are: so the
    truth at high load is better than this, up to where a core is full.
    """
    rng = np.random.default_rng(seed)
    tenant = rng.choice(load.tenants, size=load.streams, p=load.by_tenant() / load.streams)
    shard = _shards_of_tenants(load, fleet.shards)[tenant]
    router = rng.integers(0, fleet.routers, size=load.streams)
    rounds = int(seconds * TOKENS_A_SECOND)
    gap = GAP_MS / 1000
    begins = rng.uniform(0, gap, size=load.streams)
    times = (begins[:, None] + gap * np.arange(rounds)).ravel() + rng.normal(0, gap / 20, load.streams * rounds)
    # One more event of each kind for each request that begins and ends meanwhile.
    requests = rng.poisson(load.requests_a_second * seconds)
    owner = rng.integers(0, load.streams, size=requests)
    streams = np.concatenate([np.repeat(np.arange(load.streams), rounds), owner])
    times = np.concatenate([times, rng.uniform(0, seconds, requests)])
    is_request = np.arange(len(times)) >= load.streams * rounds
    through = _through(times, shard[streams], _us(is_request, costs.server_request_us, costs.server_token_us))
    through = _through(through, router[streams], _us(is_request, costs.router_request_us, costs.router_token_us))
    return 1000 * (through - times)[~is_request]


def _us(is_request: NDArray[np.bool_], request_us: float, token_us: float) -> Floats:
    return np.where(is_request, request_us, token_us) / 1e6


def _through(arrivals: Floats, queue: NDArray[np.int64], service: Floats) -> Floats:
    """When each leaves its queue, first come, first served.

    Leaving i = max(arrival i, leaving i-1) + service i. So leaving i, less all service up to i, is the largest arrival
    less the service before it: a running maximum.
    """
    order = np.lexsort((arrivals, queue))
    leaving = np.empty_like(arrivals)
    bounds = np.flatnonzero(np.diff(queue[order], prepend=-1, append=queue.max() + 1))
    for first, last in pairwise(bounds):
        members = order[first:last]
        served = np.cumsum(service[members])
        leaving[members] = np.maximum.accumulate(arrivals[members] - (served - service[members])) + served
    return leaving


def _shards_of_tenants(load: Load, shards: int) -> NDArray[np.int64]:
    return np.array([shard_of(f"tenant-{number}", shards) for number in range(load.tenants)], dtype=np.int64)
