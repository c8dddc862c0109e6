"""A client that holds streams on which nothing comes any more: `python -m bench.growth.holder TARGET STREAMS`.

Prints a line when all are open and idle, and leaves them all at the end of its input.
"""

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import uvloop
from grpc import aio

from bench.service.load import METADATA
from bench.service.upstream import HELD, HELD_TOKENS
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1.inference_pb2_grpc import InferenceServiceStub

if TYPE_CHECKING:
    # Exists in the stub file only.
    from bitlane.v1.inference_pb2_grpc import InferenceServiceAsyncStub as Stub

_PER_CONNECTION = 20
_OPENING = 32  # at once
_LIMIT_S = 60
_SETTLED_S = 2.0  # after which what was left has been given up everywhere


@contextmanager
def held(target: str, streams: int) -> Generator[None]:
    """So many idle streams, in a process of its own; a moment after the end they are gone."""
    if not streams:
        yield
        return
    holder = subprocess.Popen(
        [sys.executable, "-m", "bench.growth.holder", target, str(streams)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdin is not None
        assert holder.stdout is not None
        if not holder.stdout.readline():
            raise RuntimeError(f"could not open {streams} streams to {target}")
        yield
        holder.stdin.close()
        holder.wait(_LIMIT_S)
    finally:
        holder.kill()
        holder.wait()


async def _hold(target: str, streams: int) -> None:
    count = max(1, streams // _PER_CONNECTION)
    # Connections of their own: gRPC would share one between channels with the same arguments.
    channels = [aio.insecure_channel(target, options=[("bench.number", n)]) for n in range(count)]
    stubs = [cast("Stub", InferenceServiceStub(channel)) for channel in channels]
    opening = asyncio.Semaphore(_OPENING)

    async def open_one(number: int) -> aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent]:
        request = pb.GenerateRequest(
            model="smollm2", prompt=f"{HELD} {number}", sampling=pb.SamplingParams(max_tokens=64)
        )
        async with opening:
            call = stubs[number % count].Generate(request, metadata=METADATA)
            words = 0
            while words < HELD_TOKENS:
                event = await call.read()
                assert isinstance(event, pb.GenerateEvent), "a stream ended that was to be held"
                words += len(event.delta.text.split())
            return call

    calls = await asyncio.gather(*map(open_one, range(streams)))
    print(len(calls), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for call in calls:
        call.cancel()
    await asyncio.sleep(_SETTLED_S)
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    uvloop.run(_hold(sys.argv[1], int(sys.argv[2])))
