"""An engine's process is killed: its worker hands its streams over, and another worker goes on with them."""

import asyncio
import os
import signal
import time
from itertools import islice, pairwise
from typing import Any

from bench.engines.load import prompts
from bench.engines.stack import MODEL, GpuStack, engine_process
from bitlane import Completion, PrecisionName

_TOKENS = 400


async def measure(stack: GpuStack, pin: PrecisionName, streams: int) -> dict[str, Any]:
    """Kills the engine of the first of two workers while both have streams."""
    victim = stack.workers[pin][0]
    async with stack.client() as client:
        running = [
            client.stream(text, model=MODEL, pin=pin, max_tokens=_TOKENS, temperature=0.0)
            for text in islice(prompts(0), streams)
        ]
        counts = [0] * streams
        stamps: list[list[float]] = [[] for _ in running]

        async def read(index: int) -> Completion:
            async for delta in running[index]:
                counts[index] += len(delta.token_ids)
                stamps[index].append(time.perf_counter())
            return await running[index].result()

        reading = [asyncio.create_task(read(i)) for i in range(streams)]
        # Some may be short; noqa: many tasks change the counts.
        while any(n < 10 and not task.done() for n, task in zip(counts, reading, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        killed = time.perf_counter()
        os.kill(engine_process(victim.pid), signal.SIGKILL)
        completions = await asyncio.gather(*reading)
    moved = [i for i, completion in enumerate(completions) if (completion.receipt.attempts or 0) > 1]
    gaps = [_longest_gap(stamps[i], killed) for i in moved]
    return {
        "streams": streams,
        "moved": len(moved),
        "complete": sum(completion.usage.output_tokens == counts[i] for i, completion in enumerate(completions)),
        "worst_gap_s": max(gaps, default=0.0),
        "worker_exit": victim.wait(20.0),
    }


def _longest_gap(stamps: list[float], after: float) -> float:
    late = [stamp for stamp in stamps if stamp >= after]
    earlier = [stamp for stamp in stamps if stamp < after]
    line = [*(earlier[-1:]), *late]
    return max((b - a for a, b in pairwise(line)), default=0.0)
