"""An open-loop load from a process of its own, so that what it costs does not slow those whose times are taken.

`python -m tests.chaos.flood '{"target": ..., "key": ..., "rate": ..., "seconds": ...}'` prints one JSON object.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Self, cast

from grpc import aio

from bitlane.v1 import inference_pb2 as pb
from bitlane.v1.inference_pb2_grpc import InferenceServiceStub
from tests.chaos.load import MODEL, error_reason, open_loop
from tests.process.scripted import expected_tokens

if TYPE_CHECKING:
    # Exists in the stub file only.
    from bitlane.v1.inference_pb2_grpc import InferenceServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Flood:
    """What is sent."""

    target: str
    key: str
    rate: float  # requests a second
    seconds: float
    tokens: int = 16
    timeout_s: float = 30.0
    pin: int = 0
    batch_share: float = 0.0  # of the requests, with priority `batch`; the others are interactive


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    sent: int = 0
    done: int = 0  # whole, within the timeout
    done_batch: int = 0
    done_meanwhile: int = 0  # of `done`: before the last was sent
    wrong: int = 0  # replies that differ from the script
    refused: Counter[str] = field(default_factory=Counter[str])  # before `accepted`, by reason or code
    failed: Counter[str] = field(default_factory=Counter[str])  # after it
    pushed_back: int = 0  # refusals that said when to come back
    refusal_s: list[float] = field(default_factory=list[float])
    first_token_s: list[float] = field(default_factory=list[float])
    elapsed_s: float = 0.0

    @classmethod
    def read(cls, text: str) -> Self:
        outcome = cls(**json.loads(text))
        outcome.refused, outcome.failed = Counter(outcome.refused), Counter(outcome.failed)
        return outcome

    def write(self) -> str:
        # Not `asdict`, which cannot copy a Counter.
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


async def flood(what: Flood) -> Outcome:
    """Sends it all from this process."""
    outcome = Outcome()
    metadata = (("authorization", f"Bearer {what.key}"),)
    # A client that goes on for so long at such rates is many clients; one connection of theirs each.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with aio.insecure_channel(what.target, options) as channel:
        stub = cast("InferenceServiceAsyncStub", InferenceServiceStub(channel))

        async def send(number: int) -> None:
            batch = int((number + 1) * what.batch_share) > int(number * what.batch_share)
            prompt = f"flood {number}"
            request = pb.GenerateRequest(
                model=MODEL,
                prompt=prompt,
                sampling=pb.SamplingParams(max_tokens=what.tokens),
                priority=pb.PRIORITY_BATCH if batch else pb.PRIORITY_INTERACTIVE,
            )
            if what.pin:
                request.precision.pin = cast("pb.Precision.ValueType", what.pin)
            began, accepted, tokens = time.perf_counter(), False, list[int]()
            try:
                async for event in stub.Generate(request, metadata=metadata, timeout=what.timeout_s):
                    accepted = True
                    if event.HasField("delta"):
                        if not tokens:
                            outcome.first_token_s.append(time.perf_counter() - began)
                        tokens += event.delta.token_ids
            except aio.AioRpcError as error:
                reason, pushback = error_reason(error)
                reason = reason or error.code().name
                if accepted:
                    outcome.failed[reason] += 1
                else:
                    outcome.refused[reason] += 1
                    outcome.pushed_back += pushback
                    outcome.refusal_s.append(time.perf_counter() - began)
            else:
                outcome.done += 1
                outcome.done_batch += batch
                outcome.done_meanwhile += time.perf_counter() - start <= what.seconds
                outcome.wrong += tuple(tokens) != expected_tokens(prompt, what.tokens)

        start = time.perf_counter()
        outcome.sent = await open_loop(what.rate, what.seconds, send)
        outcome.elapsed_s = time.perf_counter() - start
    return outcome


async def flood_apart(what: Flood) -> Outcome:
    """The same from another process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.flood", json.dumps(asdict(what)), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"the flood ended with {process.returncode}"
    return Outcome.read(output.decode())


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(flood(Flood(**json.loads(sys.argv[1])))).write())
