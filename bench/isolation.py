"""What one tenant feels when another one sends twenty times its quota: `python -m bench.isolation`.

Promise 8. B sends steadily; A may send `A_PER_MINUTE` requests and, in every second round, offers twenty times as many,
from a process of its own. Rounds with and without A alternate in one run. Prints B's time to first token, what became
of A's requests, and what a refusal costs the router. Fails nothing: times on a shared machine say little alone.
"""

import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

import yaml
from grpc import StatusCode, aio

from bitlane.v1 import inference_pb2 as pb
from bitlane.v1.inference_pb2_grpc import InferenceServiceStub
from deploy.local.stack import Stack

if TYPE_CHECKING:
    # Exists in the stub file only.
    from bitlane.v1.inference_pb2_grpc import InferenceServiceAsyncStub as Stub

ROUNDS = 4  # of each kind
ROUND_S = 8.0
B_A_SECOND = 20
A_PER_MINUTE = 600
TIMES = 20
TOKENS = 16


def main() -> int:
    if sys.argv[1:2] == ["--attack"]:
        print(json.dumps(asyncio.run(_attack(sys.argv[2]))))
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
    first: dict[bool, list[float]] = {False: [], True: []}
    wrong: Counter[str] = Counter()
    attacks: list[dict[str, int]] = []
    refusal_ms: list[float] = []
    async with aio.insecure_channel(stack.target) as channel:
        stub = cast("Stub", InferenceServiceStub(channel))
        await _steady(stub, 2.0, [], wrong)  # warm-up
        for number in range(ROUNDS * 2):
            attacked = number % 2 == 1
            attacker = None
            before = _cpu_s(stack.routers[0].pid)
            if attacked:
                attacker = subprocess.Popen(  # noqa: ASYNC220
                    [sys.executable, "-m", "bench.isolation", "--attack", stack.target], stdout=subprocess.PIPE
                )
            await _steady(stub, ROUND_S, first[attacked], wrong)
            if attacker is not None:
                output, _ = await asyncio.to_thread(attacker.communicate)
                attacks.append(json.loads(output))
                refusal_ms.append(_cpu_s(stack.routers[0].pid) - before)
            else:
                refusal_ms.append(-(_cpu_s(stack.routers[0].pid) - before))
    offered = sum(sum(attack.values()) for attack in attacks)
    refused = sum(attack.get("RESOURCE_EXHAUSTED", 0) for attack in attacks)
    pushed = sum(attack.get("with pushback", 0) for attack in attacks)
    print(f"{'B, time to first token':28} {'p50':>9} {'p99':>9} {'requests':>9}")
    for attacked, times in first.items():
        name = f"A at {TIMES}x its quota" if attacked else "B alone"
        print(f"{name:28} {_quantile(times, 0.5):7.1f}ms {_quantile(times, 0.99):7.1f}ms {len(times):9}")
    alone, pressed = (_quantile(first[attacked], 0.99) for attacked in (False, True))
    print(f"p99 with A: {pressed:.1f} ms; promised: at most 1.25 x {alone:.1f} + 20 = {alone * 1.25 + 20:.1f} ms")
    print(f"B's errors: {sum(wrong.values())} {dict(wrong) or ''}")
    answered = offered - pushed
    print(f"A: {answered} offered, {refused} refused ({pushed} of them with pushback), others {_others(attacks)}")
    print(f"router CPU a refusal, about: {sum(refusal_ms) / max(1, refused) * 1000:.2f} ms")


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


async def _attack(target: str) -> dict[str, int]:
    """A: twenty times what it may."""
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

    async with aio.insecure_channel(target) as channel:
        stub = cast("Stub", InferenceServiceStub(channel))
        tasks: list[asyncio.Task[None]] = []
        began = time.perf_counter()
        for number in range(int((ROUND_S - 0.5) / pause)):
            await asyncio.sleep(max(0.0, began + number * pause - time.perf_counter()))
            tasks.append(asyncio.create_task(one(stub, number)))
        await asyncio.gather(*tasks)
    return dict(counts)


def _others(attacks: list[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for attack in attacks:
        total.update({k: v for k, v in attack.items() if k not in {"RESOURCE_EXHAUSTED", "with pushback"}})
    return dict(total)


def _quantile(values: list[float], q: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[round(q * 1000) - 1]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
