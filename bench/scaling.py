"""How far one machine carries, and what comes after it: `python -m bench.scaling [--costs FILE] [--write]`.

Measures what a request and a token cost each process (bench/scaling_costs.py), or reads what an earlier run measured,
works out fleets from it, and simulates them (bench/scaling_model.py). `--write` puts the plots that docs/scaling.md
shows into docs/images. Nothing fails on a number.
"""

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench.scaling_costs import Costs, measure
from bench.scaling_model import (
    GPUS,
    ROUTER_TARGET,
    SHARD_TARGET,
    Fleet,
    Load,
    busiest_shard,
    cores,
    gpus,
    planned,
    simulate,
    streams_of_one,
)
from bench.svg import Axis, Line, chart

_IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_RESULTS = Path(__file__).resolve().parent / "results" / "scaling_costs.json"
_STREAMS = (50, 100, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000)
_EVEN = 0.0  # skew: all tenants alike
_HIGHEST_MS = 1_000.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--costs", type=Path, help="measured before, instead of a new measurement")
    parser.add_argument("--write", action="store_true", help="write the plots into docs/images")
    arguments = parser.parse_args()
    if arguments.costs:
        costs = Costs(**json.loads(arguments.costs.read_text(encoding="utf-8")))
    else:
        costs = asyncio.run(measure())
        _RESULTS.parent.mkdir(exist_ok=True)
        _RESULTS.write_text(json.dumps(asdict(costs), indent=2) + "\n", encoding="utf-8")
    print("\n".join(f"{name:>20}: {value:,.1f}" for name, value in costs.as_rows().items()))
    _tell_units(costs)
    _tell_fleets(costs)
    plots = {"scaling-fleet.svg": _fleet_plot(costs), "scaling-latency.svg": _latency_plot(costs)}
    if arguments.write:
        _IMAGES.mkdir(exist_ok=True)
        for name, text in plots.items():
            (_IMAGES / name).write_text(text, encoding="utf-8")


def _tell_units(costs: Costs) -> None:
    router, shard = streams_of_one(costs)
    print(f"\nstreams of 25 tokens/s on one router core at {ROUTER_TARGET:.0%}: {router:,.0f}")
    print(f"streams on one shard at {SHARD_TARGET:.0%}: {shard:,.0f}, which is also the most of one tenant")
    for gpu in GPUS:
        print(f"streams on one {gpu.name}: {gpu.tokens_a_second / 25:,.0f} ({gpu.source})")


def _tell_fleets(costs: Costs) -> None:
    print("\nstreams  tokens/s  router cores  routers  shard cores  shards  GPUs FP4  GPUs FP8  busiest shard, Zipf")
    for streams in (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000):
        load = Load(streams)
        fleet, (router, shard) = planned(costs, load), cores(costs, load)
        row = f"{streams:7,}  {load.tokens_a_second:8,.0f}  {router:12.1f}  {fleet.routers:7}  {shard:11.1f}  "
        row += f"{fleet.shards:6}  {gpus(GPUS[0], load):8}  {gpus(GPUS[1], load):8}  "
        print(f"{row}{busiest_shard(load, fleet.shards):.1f}x")


def _latencies(costs: Costs, name: str, fleet: Fleet, *, skew: float, dashed: bool = False) -> Line:
    """More and more streams on one fleet, until they take longer than the plot is high."""
    points: list[tuple[float, float]] = []
    for streams in _STREAMS:
        p99 = float(np.percentile(simulate(costs, Load(streams, skew=skew), fleet), 99))
        print(f"  {name}, {streams:,} streams: p99 {p99:,.2f} ms")
        points.append((streams, p99))
        if p99 > _HIGHEST_MS:
            break
    return Line(name, points, dashed)


def _latency_plot(costs: Costs) -> str:
    print("\nsimulated")
    half, most = planned(costs, Load(3_000)), planned(costs, Load(10_000))
    return chart(
        "What a token waits for on its way, 99th percentile (simulated)",
        Axis("streams at 25 tokens/s", _STREAMS[0], _STREAMS[-1]),
        Axis("milliseconds", 0.1, _HIGHEST_MS),
        [
            _latencies(costs, "2 routers, 1 shard", Fleet(2, 1), skew=_EVEN),
            _latencies(costs, f"{half.routers} routers, 1 shard", Fleet(half.routers, 1), skew=_EVEN),
            _latencies(costs, f"{half.routers} routers, {half.shards} shards", half, skew=_EVEN),
            _latencies(costs, f"{most.routers} routers, {most.shards} shards", most, skew=_EVEN),
            _latencies(costs, "the same, Zipf tenants", most, skew=1.0, dashed=True),
        ],
    )


def _fleet_plot(costs: Costs) -> str:
    streams = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
    loads = [Load(n) for n in streams]
    lines = [
        Line(
            "routers (a core each)", [(n, planned(costs, load).routers) for n, load in zip(streams, loads, strict=True)]
        ),
        Line(
            "shards (a core each)", [(n, planned(costs, load).shards) for n, load in zip(streams, loads, strict=True)]
        ),
        *(
            Line(gpu.name, [(n, gpus(gpu, load)) for n, load in zip(streams, loads, strict=True)], dashed=True)
            for gpu in GPUS
        ),
    ]
    return chart(
        "What a number of streams needs",
        Axis("streams at 25 tokens/s", 100, 100_000),
        Axis("how many", 1, 1_000),
        lines,
    )


if __name__ == "__main__":
    main()
