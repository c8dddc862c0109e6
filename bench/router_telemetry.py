"""What telemetry costs a real router: `python -m bench.router_telemetry`. CPU of its process for each short stream.

Routers of one stack, alike but for OTEL_*, take the same short floods in turn, so that whatever else the machine does
meets all alike. Prints the median over the rounds, and the tenth that were cheapest, which says most on a machine that
is shared; how much more each router takes than the one without telemetry; and how its memory grew. Fails nothing.
"""

import asyncio
import multiprocessing
import os
import socket
import statistics
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, cast

from grpc import aio

from bench.service.variants import process_cpu_s
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1.inference_pb2_grpc import InferenceServiceStub
from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.contract.telemetry.receiver import receiver

if TYPE_CHECKING:
    # Exists in the stub file only.
    from bitlane.v1.inference_pb2_grpc import InferenceServiceAsyncStub as Stub

_ROUNDS = 150
_STREAMS = 40  # of a round, to each router: short, so that all meet the same moods of the machine
_AT_ONCE = 4
_TOKENS = 4
_METADATA = (("authorization", "Bearer bl_local_acme"),)


def main() -> int:
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    stop = multiprocessing.Event()
    server = multiprocessing.Process(target=_receive, args=(ports, stop), daemon=True)
    server.start()
    there = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{ports.get()}"}
    both = {"OTEL_METRICS_EXPORTER": "otlp,prometheus"}
    with (
        socket.create_server(("127.0.0.1", 0)) as deaf,
        Stack(engine="scripted", engine_options='{"slots": 64}') as stack,
    ):
        stack.start()
        away = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{deaf.getsockname()[1]}"}
        asyncio.run(
            _measure(
                stack,
                {
                    "no telemetry": {},
                    "traces at 1 %, no metrics": {**there, "OTEL_METRICS_EXPORTER": "none"},
                    "everything, traces at 1 %": {**there, **both},
                    "everything, all sampled, receiver deaf": {
                        **away,
                        **both,
                        "OTEL_TRACES_SAMPLER": "parentbased_always_on",
                    },
                },
            )
        )
    stop.set()
    server.join()
    return 0


async def _measure(stack: Stack, variants: Mapping[str, Mapping[str, str]]) -> None:
    routers = {name: stack.add_router(env=environ) for name, environ in variants.items()}
    costs: dict[str, list[float]] = {name: [] for name in routers}
    async with AsyncExitStack() as channels:
        stubs: dict[str, Stub] = {}
        for name, router in routers.items():
            channel = await channels.enter_async_context(aio.insecure_channel(stack.target_of(router)))
            stubs[name] = cast("Stub", InferenceServiceStub(channel))
        await asyncio.sleep(1)  # each looks at the registry a few times a second
        for name, stub in stubs.items():
            for _ in range(10):
                await _flood(stub, routers[name])
        before = {name: _resident_mb(router) for name, router in routers.items()}
        for number in range(_ROUNDS):
            names = list(routers)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                costs[name].append(await _flood(stubs[name], routers[name]))
    base = next(iter(routers))
    print(f"CPU microseconds a stream of {_TOKENS} tokens, over {_ROUNDS} rounds of {_STREAMS}; and more than without")
    print(f"{'':40}{'median':>9}{'more':>7}{'lowest tenth':>14}{'more':>7}{'MB':>14}")
    for name, router in routers.items():
        figures = ""
        for width, quantile in ((9, 0.5), (14, 0.1)):
            cost, without = (_quantile(costs[each], quantile) for each in (name, base))
            figures += f"{cost:{width}.0f}{cost - without:+7.0f}"
        print(f"{name:40}{figures}{f'{before[name]:.0f} to {_resident_mb(router):.0f}':>14}")


async def _flood(stub: "Stub", router: Process) -> float:
    """CPU microseconds of the router for each stream."""
    left = iter(range(_STREAMS))

    async def work() -> None:
        for number in left:
            request = pb.GenerateRequest(
                model="smollm2", prompt=f"flood {number}", sampling=pb.SamplingParams(max_tokens=_TOKENS)
            )
            async for _ in stub.Generate(request, metadata=_METADATA):
                pass

    began = process_cpu_s(router.pid)
    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    return 1e6 * (process_cpu_s(router.pid) - began) / _STREAMS


def _quantile(values: list[float], q: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(q * 100) - 1]


def _resident_mb(router: Process) -> float:
    pages = int(Path(f"/proc/{router.pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _receive(ports: "multiprocessing.Queue[int]", stop: Event) -> None:
    with receiver() as servicer:
        ports.put(servicer.port)
        stop.wait()


if __name__ == "__main__":
    sys.exit(main())
