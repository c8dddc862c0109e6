"""The client of all variants, in a process of its own: `python -m bench.service.load JSON`, see `Work`.

Closed loop: `at_once` callers, each of which sends its next request when the last one ended. Prints what it saw as one
line of JSON, see `Seen`.
"""

import asyncio
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, cast

import grpc
import uvloop
from grpc import aio

from bitlane.v1 import inference_pb2 as pb
from bitlane.v1.inference_pb2_grpc import InferenceServiceStub

if TYPE_CHECKING:
    # Exists in the stub file only.
    from bitlane.v1.inference_pb2_grpc import InferenceServiceAsyncStub as Stub

# Callers of one connection: few, so that several routers behind one port all get some.
_PER_CONNECTION = 8
METADATA = (("authorization", "Bearer bl_bench"),)


@dataclass(frozen=True, slots=True)
class Work:
    """What one round sends."""

    target: str
    requests: int
    at_once: int
    tokens: int
    prompt_bytes: int = 40
    stream: bool = True
    cancel: bool = False  # leave after the first token
    leave: bool = False  # leave as soon as it is admitted
    tenants: int = 1  # more than one: request i comes with the key of tenant i % tenants
    tag: str = ""  # makes the prompts of a round its own


@dataclass(slots=True)
class Seen:
    """Times are in seconds, from the call on; one entry for each request that was answered.

    Tokens are counted as words: not every engine tells ids, and all engines here send a word a token.
    """

    first_s: list[float] = field(default_factory=list[float])
    whole_s: list[float] = field(default_factory=list[float])
    tokens: int = 0
    messages: int = 0
    wrong: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0
    cpu_s: float = 0.0  # of the client


def prompt_of(work: Work, number: int) -> str:
    """Of one request: no two of a round are alike."""
    prompt = f"{work.tag} {number} Hello there, how is the weather? "
    return prompt + "and so it went on " * ((work.prompt_bytes - len(prompt)) // 18)


async def run(work: Work) -> Seen:
    """Sends it all."""
    seen = Seen()
    numbers = iter(range(work.requests))
    count = max(1, (work.at_once + _PER_CONNECTION - 1) // _PER_CONNECTION)
    # Connections of their own: gRPC would share one between channels with the same arguments.
    channels = [aio.insecure_channel(work.target, options=[("bench.number", n)]) for n in range(count)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    stubs = [cast("Stub", InferenceServiceStub(channel)) for channel in channels]
    gc.collect()
    gc.freeze()
    began, cpu = time.perf_counter(), time.process_time()

    async def caller(stub: "Stub") -> None:
        for number in numbers:
            try:
                await _one(stub, work, number, seen)
            except aio.AioRpcError as error:
                seen.wrong[error.code().name] = seen.wrong.get(error.code().name, 0) + 1

    await asyncio.gather(*(caller(stubs[n % count]) for n in range(work.at_once)))
    seen.seconds, seen.cpu_s = time.perf_counter() - began, time.process_time() - cpu
    for channel in channels:
        await channel.close()
    return seen


async def _one(stub: "Stub", work: Work, number: int, seen: Seen) -> None:
    request = pb.GenerateRequest(
        model="smollm2", prompt=prompt_of(work, number), sampling=pb.SamplingParams(max_tokens=work.tokens)
    )
    metadata = METADATA
    if work.tenants > 1:
        metadata = (("authorization", f"Bearer bl_bench-{number % work.tenants}"),)
    began = time.perf_counter()
    if not work.stream:
        reply = await stub.Complete(pb.CompleteRequest(request=request), metadata=metadata)
        seen.first_s.append(time.perf_counter() - began)
        seen.tokens += len(reply.text.split())
    else:
        first = True
        call = stub.Generate(request, metadata=metadata)
        async for event in call:
            if work.leave:
                call.cancel()
                break
            if not event.HasField("delta"):
                continue
            if first:
                seen.first_s.append(time.perf_counter() - began)
                first = False
            seen.messages += 1
            seen.tokens += len(event.delta.text.split())
            if work.cancel:
                call.cancel()
                break
        if not (work.cancel or work.leave) and await call.code() is not grpc.StatusCode.OK:
            raise AssertionError("a stream ended by itself, and not well")
    seen.whole_s.append(time.perf_counter() - began)


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(Work(**json.loads(sys.argv[1])))))))
