"""With open streams: what each takes of a router's memory, and what a request costs while they are open."""

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.growth.curve import Curve
from bench.growth.holder import held
from bench.service import parts
from bench.service.load import Work
from bench.service.measure import measure
from bench.service.upstream import HELD
from bench.service.variants import BITLANE, FLOOR, Variant, of_stack
from deploy.local.stack import Stack

OPEN = (0, 250, 500, 1_000, 2_000)
SERVER = "bare gRPC server"  # what answers behind the floor: the least that a stream takes in Python
GROWS, MEMORY, COST = "idle streams", "memory a stream, KiB", "router CPU a request, us"


def measure_streams(rounds: int, numbers: Sequence[int] = OPEN) -> list[Curve]:
    """Memory is that of the first round: what has been freed once is used again, and shows no growth."""
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
        upstream, upstream_port = started.enter_context(parts.module("bench.service.upstream", [], folder))
        arguments = ["--upstream", f"localhost:{upstream_port}"]
        floor, port = started.enter_context(parts.module("bench.service.floor", arguments, folder))
        stack = Stack(
            engine="scripted",
            engine_options=json.dumps({"slots": 2 * max(numbers), "hang_on": HELD}),
            config=parts.configuration(folder),
            telemetry=started.enter_context(parts.telemetry(True)),
        )
        variants = [
            Variant(SERVER, f"localhost:{upstream_port}", {"proxy": (upstream.pid,)}),
            Variant(FLOOR, f"localhost:{port}", {"proxy": (floor.pid,)}),
            *of_stack(started.enter_context(stack).start(), BITLANE),
        ]
        found = {
            variant.name: (Curve(MEMORY, GROWS, variant.name), Curve(COST, GROWS, variant.name)) for variant in variants
        }
        for variant in variants:
            measure(variant, _probe(variant, "warm-up"))
        for number in range(rounds):
            for variant in variants[number % 3 :] + variants[: number % 3]:
                before = variant.memory_mib()["proxy"]
                for streams in numbers:
                    with held(variant.target, streams):
                        if streams and number == 0:
                            grown = (variant.memory_mib()["proxy"] - before) * 1024
                            found[variant.name][0].add(streams, grown / streams)
                        one = measure(variant, _probe(variant, f"{number} {streams}"))
                        found[variant.name][1].add(streams, 1e6 * one.cpu_s["proxy"] / one.requests)
        return [curve for curves in found.values() for curve in curves]


def _probe(variant: Variant, tag: str) -> Work:
    return Work(target=variant.target, requests=200, at_once=16, tokens=16, tag=tag)
