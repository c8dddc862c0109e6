"""`python -m bench.engines models | speed | real`: runs on a host with a GPU, where the engine is installed.

    models OUT    writes checkpoints: sizes of Llama 8B without weights, and SmolLM2 in sizes that kernels take
    speed --engine vllm --model OUT/dummy-8b --precision fp8 --args '{"quantization": "fp8", ...}' --out RESULTS
    real  --engine vllm --fp8 DIR --fp4 DIR --args '{...}' --fp8-args '{"quantization": "fp8"}' --out RESULTS

`speed` starts the engine twice on one GPU, once by itself and once in a worker behind the whole service, and lets the
two take turns; then it cancels. `real` asks a real checkpoint some questions in two pools, and kills an engine.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.engines import cancel, kill, speed, text
from bench.engines.models import write_models
from bench.engines.stack import MODEL, GpuStack, Pool
from bitlane import PrecisionName


def main() -> int:
    options = _parser().parse_args()
    return options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="command")
    one = commands.add_parser("models", help="write checkpoints to measure with")
    one.add_argument("out", type=Path)
    one.set_defaults(run=_models)
    one = commands.add_parser("speed", help="through the service and alone, in turns")
    one.add_argument("--engine", choices=("vllm", "sglang"), required=True)
    one.add_argument("--model", required=True)
    one.add_argument("--precision", choices=("fp4", "fp8", "bf16"), required=True)
    one.add_argument("--args", type=json.loads, default={}, help="the engine's own arguments as JSON, for both")
    one.add_argument("--streams", default="1,8,32,64")
    one.add_argument("--slots", type=int, default=64)
    one.add_argument("--repeats", type=int, default=5)
    one.add_argument("--steady", type=int, default=1, help="so many rounds of longer replies that come one by one")
    one.add_argument("--routers", default="1,4", help="ways through: router processes behind one port")
    one.add_argument("--together", action="store_true", help="both engines load at once: give their caches a size")
    one.add_argument("--clients", type=int, default=4, help="client processes; each stream has its own connection")
    one.add_argument("--cancels", type=int, default=5)
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(run=_speed)
    one = commands.add_parser("real", help="text in two pools, and a killed engine")
    one.add_argument("--engine", choices=("vllm", "sglang"), required=True)
    one.add_argument("--fp8", required=True)
    one.add_argument("--fp4")
    one.add_argument("--args", type=json.loads, default={}, help="the engine's own arguments as JSON, of both pools")
    one.add_argument("--fp8-args", type=json.loads, default={}, help="further ones of the FP8 pool")
    one.add_argument("--fp4-args", type=json.loads, default={}, help="further ones of the FP4 pool")
    one.add_argument("--streams", type=int, default=8)
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(run=_real)
    return parser


def _models(options: argparse.Namespace) -> int:
    for folder in write_models(options.out):
        print(folder)
    return 0


def _speed(options: argparse.Namespace) -> int:
    pool = Pool(
        options.precision,
        options.engine,
        {
            "model": options.model,
            "slots": options.slots,
            "context_tokens": 4096,
            "ignore_end": True,
            "engine_args": options.args,
        },
    )
    length = {"max_model_len": 4096} if options.engine == "vllm" else {"context_length": 4096}
    pin: PrecisionName = options.precision
    counts = [int(n) for n in options.routers.split(",")]
    with ExitStack() as opened:
        alone = speed.alone(options.engine, options.model, length | options.args)
        opened.callback(alone.close)
        if not options.together:
            _say(f"{options.engine} alone is up after {alone.wait():.0f} s")
        stack = opened.enter_context(GpuStack([pool], routers=counts))
        stack.start()
        worker = stack.add_worker(pin)
        _say(f"the worker is up after {stack.wait(worker):.0f} s")
        if options.together:
            _say(f"{options.engine} alone is up after {alone.wait():.0f} s")
        ways = {"alone": alone}
        for way, (count, target) in enumerate(stack.targets.items(), start=1):
            senders = speed.through(target, pin, options.clients, way)
            ways[f"{count} router{'s' if count > 1 else ''}"] = senders
            opened.callback(senders.close)
            senders.wait()
        streams = [int(n) for n in options.streams.split(",")]
        found = speed.measure(ways, stack, streams, options.repeats, options.steady)
        print(speed.table(found), flush=True)
        profile = asyncio.run(_profile(stack, pin))
        name = f"{options.engine}-{pin}"
        setting = {"clients": options.clients, "args": options.args}
        _write(options.out / f"speed-{name}.json", found | {"profile": profile, "setting": setting})
        best = list(ways)[-1]
        served = f"through the whole service with {best}"
        speed.throughput_file(found, profile, options.out / f"throughput-{name}-served.json", best, served)
        speed.throughput_file(found, profile, options.out / f"throughput-{name}.json", "alone", "the engine alone")
        if options.cancels:
            alone.close()
            stopped = asyncio.run(cancel.measure(stack, pin, options.slots, options.cancels))
            _say(f"cancel: {json.dumps(stopped)}")
            _write(options.out / f"cancel-{name}.json", stopped)
    return 0


async def _profile(stack: GpuStack, pin: PrecisionName) -> Mapping[str, object]:
    """The profile that receipts carry."""
    async with stack.client() as client:
        completion = await client.generate("x", model=MODEL, pin=pin, max_tokens=1)
    profile = completion.receipt.profile
    assert profile is not None
    return {key: getattr(value, "value", value) for key, value in asdict(profile).items()}


def _real(options: argparse.Namespace) -> int:
    def pool(precision: str, model: str, args: Mapping[str, object]) -> Pool:
        engine = {"model": model, "slots": 16, "context_tokens": 2048, "engine_args": options.args | args}
        return Pool(precision, options.engine, engine)

    pools = [pool("fp8", options.fp8, options.fp8_args)]
    pools += [pool("fp4", options.fp4, options.fp4_args)] if options.fp4 else []
    with GpuStack(pools, context_tokens=2048) as stack:
        stack.start()
        # One after the other: engines look at the free memory while they start.
        for one in pools:
            _say(f"the {one.precision} worker is up after {stack.wait(stack.add_worker(one.precision)):.0f} s")
        answers = asyncio.run(text.ask(stack))
        _write(options.out / f"text-{options.engine}.json", {"answers": answers})
        _say(f"a second fp8 worker is up after {stack.wait(stack.add_worker('fp8')):.0f} s")
        died = asyncio.run(kill.measure(stack, "fp8", options.streams))
        _say(f"kill: {json.dumps(died)}")
        _write(options.out / f"kill-{options.engine}.json", died)
    return 0


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
