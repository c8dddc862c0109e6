"""How long a router takes from nothing to its first token: `python -m bench.cold_start [--rounds N] [--json FILE]`.

Beside a proxy that does nothing, which pays for Python and gRPC alone. Redis and workers run already, as they do when a
router is added or restarted. The two take turns. Fails on no figure.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import grpc

from bench.results import save
from bench.service import parts
from bench.service.load import METADATA
from bench.service.report import Figure
from bench.service.variants import BITLANE, FLOOR, Variant
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1.inference_pb2_grpc import InferenceServiceStub
from deploy.local.stack import Stack

_WAIT_S = 30.0
READY, FIRST, SECOND = "ready to listen, s", "first token after that, ms", "of the second request, ms"
CPU, MEMORY = "CPU until then, s", "memory, MiB"
_COLUMNS = (READY, FIRST, SECOND, CPU, MEMORY)
Starting = Callable[[], AbstractContextManager[tuple[str, int]]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cold_start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    found = _measure(arguments.rounds)
    lines = ["| | " + " | ".join(_COLUMNS) + " |", "| --- |" + " --- |" * len(_COLUMNS)]
    for name, columns in found.items():
        lines.append(f"| {name} | " + " | ".join(Figure.of(columns[column]).text() for column in _COLUMNS) + " |")
    markdown = "\n".join(lines)
    print(markdown)
    save(arguments.json, {"rounds": arguments.rounds, "variants": found, "markdown": markdown})
    return 0


def _measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """By variant and column, a figure a round."""
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
        _, port = started.enter_context(parts.module("bench.service.upstream", [], folder))
        telemetry = started.enter_context(parts.telemetry(True))
        stack = Stack(engine="scripted", config=parts.configuration(folder), telemetry=telemetry)
        started.enter_context(stack).start()

        @contextmanager
        def floor() -> Generator[tuple[str, int]]:
            with parts.module("bench.service.floor", ["--upstream", f"localhost:{port}"], folder) as (process, own):
                yield f"localhost:{own}", process.pid

        @contextmanager
        def router() -> Generator[tuple[str, int]]:
            process = stack.add_router()
            try:
                yield stack.target_of(process), process.pid
            finally:
                process.kill()

        starting: Mapping[str, Starting] = {FLOOR: floor, BITLANE: router}
        found = {name: {column: list[float]() for column in _COLUMNS} for name in starting}
        for number in range(rounds):
            for name, start in list(starting.items())[:: 1 if number % 2 else -1]:
                for column, value in _once(name, start, number).items():
                    found[name][column].append(value)
    return found


def _once(name: str, start: Starting, number: int) -> Mapping[str, float]:
    began = time.perf_counter()
    with start() as (target, pid), grpc.insecure_channel(target) as channel:
        ready = time.perf_counter()
        stub = InferenceServiceStub(channel)
        first = _first_token_ms(stub, f"first of {number}")
        second = _first_token_ms(stub, f"second of {number}")
        variant = Variant(name, target, {"proxy": (pid,)})
        cpu, memory = variant.cpu_s()["proxy"], variant.memory_mib()["proxy"]
    return {READY: ready - began, FIRST: first, SECOND: second, CPU: cpu, MEMORY: memory}


def _first_token_ms(stub: InferenceServiceStub, prompt: str) -> float:
    request = pb.GenerateRequest(model="smollm2", prompt=prompt, sampling=pb.SamplingParams(max_tokens=4))
    began = time.perf_counter()
    call = stub.Generate(request, metadata=METADATA, timeout=_WAIT_S, wait_for_ready=True)
    next(event for event in call if event.HasField("delta"))
    taken = 1e3 * (time.perf_counter() - began)
    for _ in call:
        pass
    return taken


if __name__ == "__main__":
    sys.exit(main())
