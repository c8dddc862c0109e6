"""What a request and a token cost each process, measured on loopback in one run.

CPU time of each process, while requests of few and of many tokens stream at a model's usual pace: two
equations give the cost of a request and that of a token. CPU time, unlike latency, is hardly touched by what else the
machine does.
"""

import asyncio
import re
import time
from dataclasses import asdict, dataclass

import bitlane
from bench.service.variants import process_cpu_s
from broker import Broker, BrokerOptions
from broker.replies import array, text
from deploy.local.stack import Stack

GAP_MS = 40  # between the tokens of a stream: 25 a second
_STREAMS = 64
_SHORT, _LONG = 8, 128  # tokens
_SECONDS = 12.0
_IDLE_S = 5.0
_POOL = "smollm2/fp8"
_KEY = "bl_local_acme"


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU, bytes of the server's memory and network."""

    router_request_us: float
    router_token_us: float
    server_request_us: float
    server_token_us: float
    worker_request_us: float  # bitlane's part of a worker; the engine here computes nothing
    worker_token_us: float
    server_router_us: float  # a second, for each router that is there
    server_worker_us: float  # a second, for each worker that is there
    server_token_bytes: float  # over the network, both ways
    log_token_bytes: float  # in memory, until the resume window ends

    def as_rows(self) -> dict[str, float]:
        return {name: round(value, 1) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class _Phase:
    """What one kind of load took."""

    requests: int
    tokens: int
    cpu_s: dict[str, float]  # by process, less what it takes when idle
    network_bytes: int


async def measure() -> Costs:
    """Takes about a minute."""
    options = f'{{"token_ms": {GAP_MS}, "slots": {_STREAMS}}}'
    with Stack(engine="scripted", engine_options=options) as stack:
        stack.start()
        async with Broker(BrokerOptions(url=stack.server.url)) as broker:
            bench = _Bench(stack, broker)
            await asyncio.sleep(2.0)
            alone = await bench.idle()
            short = await bench.load(_SHORT, alone)
            before = await bench.log_bytes()
            long = await bench.load(_LONG, alone)
            log_bytes = await bench.log_bytes() - before
            stack.target_of(stack.add_router())
            await asyncio.sleep(2.0)
            routers = await bench.idle()
            for _ in range(2):
                stack.add_worker(_POOL)
            stack.wait_for_worker(_POOL)
            await asyncio.sleep(2.0)
            workers = await bench.idle()
    request_us, token_us = _solved(short, long)
    return Costs(
        router_request_us=request_us["router"],
        router_token_us=token_us["router"],
        server_request_us=request_us["server"],
        server_token_us=token_us["server"],
        worker_request_us=request_us["worker"],
        worker_token_us=token_us["worker"],
        server_router_us=1e6 * max(0.0, routers["server"] - alone["server"]),
        server_worker_us=1e6 * max(0.0, workers["server"] - routers["server"]) / 2,
        server_token_bytes=long.network_bytes / long.tokens,
        log_token_bytes=log_bytes / long.tokens,
    )


def _solved(short: _Phase, long: _Phase) -> tuple[dict[str, float], dict[str, float]]:
    """CPU = requests x + tokens y, twice."""
    requests: dict[str, float] = {}
    tokens: dict[str, float] = {}
    determinant = short.requests * long.tokens - long.requests * short.tokens
    for process in short.cpu_s:
        one, other = 1e6 * short.cpu_s[process], 1e6 * long.cpu_s[process]
        requests[process] = (one * long.tokens - other * short.tokens) / determinant
        tokens[process] = (other * short.requests - one * long.requests) / determinant
    return requests, tokens


class _Bench:
    def __init__(self, stack: Stack, broker: Broker) -> None:
        self._stack = stack
        self._broker = broker

    async def idle(self) -> dict[str, float]:
        """Seconds of CPU a second."""
        before = self._cpu()
        await asyncio.sleep(_IDLE_S)
        return {process: (cpu - before[process]) / _IDLE_S for process, cpu in self._cpu().items()}

    async def load(self, tokens: int, idle: dict[str, float]) -> _Phase:
        """Streams that begin anew as they end, for a while, and then run out."""
        async with bitlane.AsyncClient(self._stack.target, api_key=_KEY, timeout=120) as client:
            ends = time.monotonic() + _SECONDS
            served = 0

            async def stream(number: int) -> None:
                nonlocal served
                await asyncio.sleep(number * GAP_MS / 1000 / _STREAMS)
                while time.monotonic() < ends:
                    await client.generate(f"stream {number}", model="smollm2", pin="fp8", max_tokens=tokens)
                    served += 1

            network, before, began = await self._network(), self._cpu(), time.monotonic()
            await asyncio.gather(*(stream(number) for number in range(_STREAMS)))
            seconds, after = time.monotonic() - began, self._cpu()
            cpu = {process: after[process] - before[process] - idle[process] * seconds for process in after}
            return _Phase(served, served * tokens, cpu, await self._network() - network)

    async def log_bytes(self) -> int:
        """What all token logs take in the server, of replies that ended up to a minute ago too."""
        server = self._broker._registry_pipeline  # pyright: ignore[reportPrivateUsage]
        names = array(await server.command("KEYS", "*:log:*"))
        sizes = await asyncio.gather(*(server.command("MEMORY", "USAGE", text(name)) for name in names))
        return sum(size for size in sizes if isinstance(size, int))

    async def _network(self) -> int:
        return sum([await self._info("stats", f"total_net_{way}_bytes") for way in ("input", "output")])

    async def _info(self, section: str, field: str) -> int:
        info = await self._broker._registry_pipeline.command("INFO", section)  # pyright: ignore[reportPrivateUsage]
        assert isinstance(info, bytes)
        (value,) = re.findall(rf"^{field}:(\d+)".encode(), info, re.MULTILINE)
        return int(value)

    def _cpu(self) -> dict[str, float]:
        return {
            "router": process_cpu_s(self._stack.routers[0].pid),
            "server": process_cpu_s(self._stack.server.pid),
            "worker": process_cpu_s(self._stack.workers[_POOL][0].pid),
        }
