"""What one tenant feels when another one sends twenty times its quota: `python -m bench.isolation`.

Promise 8. B sends steadily; A may send `A_PER_MINUTE` requests and, in every second round, offers twenty times as many,
from a process of its own. Rounds with and without A alternate in one run. At first A has an allowance saved up, and so
is admitted, twenty times as fast as it may go on: that is work within its quota, and counted apart. Prints B's time to
first token, what became of A's requests, and what a refusal costs the router. Fails nothing: times on a shared machine
say little alone.
"""

import asyncio
import hashlib
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import yaml
from grpc import StatusCode, aio

from bench.service.variants import process_cpu_s
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1.inference_pb2_grpc import InferenceServiceStub
from deploy.local.stack import Stack

if TYPE_CHECKING:
    # Exists in the stub file only.
    from bitlane.v1.inference_pb2_grpc import InferenceServiceAsyncStub as Stub

ROUNDS = 4  # of each kind
ROUND_S = 8.0
BURST_S = 4.0  # after which A's allowance is certainly spent
B_A_SECOND = 20
A_PER_MINUTE = 600
TIMES = 20
TOKENS = 16
ALONE, BURST, OVER = "alone", "A spends what it has saved up", f"A at {TIMES}x its quota"


def main() -> int:
    if sys.argv[1:2] == ["--attack"]:
        asyncio.run(_attack(sys.argv[2]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        config = _config(Path(folder))
        with Stack(engine="scripted", engine_options='{"token_ms": 5, "slots": 64}', config=config) as stack:
            stack.start()
            asyncio.run(_measure(stack))
    return 0


def _config(folder: Path) -> Path:
    config = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
    limits = {"a": {"requests_per_minute": A_PER_MINUTE}, "b": {}}
    config["tenants"] = [
        {
            "id": tenant,
            "keys": [{"name": "bench", "sha256": hashlib.sha256(f"bl_bench_{tenant}".encode()).hexdigest()}],
            "quota": {"limits": bounds},
        }
        for tenant, bounds in limits.items()
    ]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _request(text: str) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="smollm2", prompt=text, sampling=pb.SamplingParams(max_tokens=TOKENS))


def _metadata(tenant: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer bl_bench_{tenant}"),)


async def _measure(stack: Stack) -> None:
    first: dict[str, list[float]] = {ALONE: [], BURST: [], OVER: []}
    wrong: Counter[str] = Counter()
    over: Counter[str] = Counter()
    router = stack.routers[0].pid
    cpu_s = {ALONE: 0.0, OVER: 0.0}
    async with aio.insecure_channel(stack.target) as channel, _attacker(stack.target) as attacker:
        stub = cast("Stub", InferenceServiceStub(channel))
        await _steady(stub, 2.0, [], wrong)  # warm-up
        for _ in range(ROUNDS):
            began = process_cpu_s(router)
            await _steady(stub, ROUND_S, first[ALONE], wrong)
            cpu_s[ALONE] += process_cpu_s(router) - began
            await attacker.tell("start")
            await _steady(stub, BURST_S, first[BURST], wrong)
            await attacker.tell("count")
            began = process_cpu_s(router)
            await _steady(stub, ROUND_S, first[OVER], wrong)
            cpu_s[OVER] += process_cpu_s(router) - began
            over.update(await attacker.tell("stop"))
    print(f"{'B, time to first token':38} {'p50':>9} {'p99':>9} {'requests':>9}")
    for name, times in first.items():
        print(f"{name:38} {_quantile(times, 0.5):7.1f}ms {_quantile(times, 0.99):7.1f}ms {len(times):9}")
    alone, pressed = (_quantile(first[name], 0.99) for name in (ALONE, OVER))
    print(
        f"p99 over A's quota: {pressed:.1f} ms; promised: at most 1.25 x {alone:.1f} + 20 = {alone * 1.25 + 20:.1f} ms"
    )
    print(f"B's errors: {sum(wrong.values())} {dict(wrong) or ''}")
    pushed = over.pop("with pushback", 0)
    refused = over["RESOURCE_EXHAUSTED"]
    print(f"A over its quota: {over.total()} offered, {refused} refused, {pushed} of them with pushback; {dict(over)}")
    print(f"router CPU a refusal, about: {(cpu_s[OVER] - cpu_s[ALONE]) / max(1, refused) * 1000:.2f} ms")


class _Attacker:
    """A: a process of its own, which starts and stops when told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tell(self, word: str) -> dict[str, int]:
        """Returns what became of A's requests since the last word."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n".encode())
        return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def _attacker(target: str) -> AsyncGenerator[_Attacker]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.isolation", "--attack", target),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        attacker = _Attacker(process)
        await attacker.tell("count")  # it has connected
        yield attacker
    finally:
        process.terminate()
        await process.wait()


async def _steady(stub: "Stub", seconds: float, times: list[float], wrong: Counter[str]) -> None:
    """B: requests at even intervals, whatever the answers do."""
    tasks: list[asyncio.Task[None]] = []
    began = time.perf_counter()
    for number in range(int(seconds * B_A_SECOND)):
        await asyncio.sleep(max(0.0, began + number / B_A_SECOND - time.perf_counter()))
        tasks.append(asyncio.create_task(_first_token(stub, f"steady {number}", times, wrong)))
    await asyncio.gather(*tasks)


async def _first_token(stub: "Stub", text: str, times: list[float], wrong: Counter[str]) -> None:
    began = time.perf_counter()
    waiting = True
    try:
        async for event in stub.Generate(_request(text), metadata=_metadata("b")):
            if waiting and event.HasField("delta"):
                times.append((time.perf_counter() - began) * 1000)
                waiting = False
    except aio.AioRpcError as error:
        wrong[error.code().name] += 1


async def _attack(target: str) -> None:
    """A: twenty times what it may, from "start" to "stop"."""
    counts: Counter[str] = Counter()
    pause = 60 / (A_PER_MINUTE * TIMES)

    async def one(stub: "Stub", number: int) -> None:
        try:
            async for _ in stub.Generate(_request(f"attack {number}"), metadata=_metadata("a")):
                pass
            counts["OK"] += 1
        except aio.AioRpcError as error:
            counts[error.code().name] += 1
            trailers = error.trailing_metadata() or ()
            if error.code() is StatusCode.RESOURCE_EXHAUSTED and any(
                k == "grpc-retry-pushback-ms" for k, _ in trailers
            ):
                counts["with pushback"] += 1

    async def offer(stub: "Stub") -> None:
        async with asyncio.TaskGroup() as tasks:
            began = time.perf_counter()
            for number in itertools.count():
                await asyncio.sleep(max(0.0, began + number * pause - time.perf_counter()))
                tasks.create_task(one(stub, number))

    async with aio.insecure_channel(target) as channel:
        stub = cast("Stub", InferenceServiceStub(channel))
        await channel.channel_ready()
        offering: asyncio.Task[None] | None = None
        while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if word == "start":
                offering = asyncio.create_task(offer(stub))
            elif word == "stop" and offering is not None:
                offering.cancel()
                await asyncio.gather(offering, return_exceptions=True)
            print(json.dumps(counts), flush=True)
            counts.clear()


def _quantile(values: list[float], q: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[round(q * 1000) - 1]


if __name__ == "__main__":
    sys.exit(main())
