"""How soon the GPU stops working on a cancelled request, in two ways, through the whole service.

- Handover: all slots run long replies and one request waits. One reply is cancelled; the engine has no place for the
  waiting one until it has really dropped the other. Time from the cancel to the waiting request's first token.
- Idle: one long reply runs alone and is cancelled; kernels of this process become quick again.
"""

import asyncio
import statistics
import time
from typing import Any

from bench.engines.gpu_probe import GpuProbe
from bench.engines.load import prompts
from bench.engines.stack import MODEL, GpuStack
from bitlane import AsyncClient, AsyncStream, PrecisionName

_LONG = 3500


async def measure(stack: GpuStack, pin: PrecisionName, slots: int, repeats: int) -> dict[str, Any]:
    async with stack.client() as client:
        handovers = [await _handover(client, pin, slots) for _ in range(repeats)]
        idles = [await _idle(client, pin) for _ in range(repeats)]
    known = [idle for idle in idles if idle is not None]
    return {
        "handover_ms": handovers,
        "handover_p50_ms": statistics.median(handovers),
        "idle_ms": known,
        "idle_p50_ms": statistics.median(known) if known else None,
        "idle_worst_ms": max(known) if known else None,
    }


_texts = prompts(900_000)


def _start(client: AsyncClient, pin: PrecisionName, tokens: int = _LONG) -> AsyncStream:
    return client.stream(next(_texts), model=MODEL, pin=pin, max_tokens=tokens, temperature=0.0)


async def _until(stream: AsyncStream, tokens: int) -> None:
    seen = 0
    while seen < tokens:
        seen += len((await anext(stream)).token_ids)


async def _drain(stream: AsyncStream) -> None:
    async for _ in stream:
        pass


async def _handover(client: AsyncClient, pin: PrecisionName, slots: int) -> float:
    running = [_start(client, pin) for _ in range(slots)]
    await asyncio.gather(*(_until(stream, 5) for stream in running))
    reading = [asyncio.create_task(_drain(stream)) for stream in running[1:]]
    waiting = _start(client, pin, 8)
    await waiting.accepted()
    first = asyncio.create_task(_until(waiting, 1))
    await asyncio.sleep(0.3)
    assert not first.done(), "the waiting request found a free slot: slots and engine do not agree"
    began = time.perf_counter()
    await running[0].cancel()
    await first
    took = 1000 * (time.perf_counter() - began)
    await asyncio.gather(*(stream.cancel() for stream in running[1:]))
    await asyncio.gather(*reading)
    await waiting.result()
    return took


async def _idle(client: AsyncClient, pin: PrecisionName) -> float | None:
    with GpuProbe() as probe:
        if not probe.works:
            return None
        stream = _start(client, pin)
        await _until(stream, 5)
        reading = asyncio.create_task(_drain(stream))
        busy_from = time.perf_counter()
        await asyncio.sleep(1.0)
        cancelled = time.perf_counter()
        await stream.cancel()
        await asyncio.sleep(2.0)
        until = time.perf_counter()
        await reading
    late = probe.idle_after((busy_from, cancelled), cancelled, until)
    return None if late is None else 1000 * late
