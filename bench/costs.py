"""What a million output tokens cost in each pool, by streams: `python -m bench.costs fp8.json nvfp4.json`.

Speeds come from files of measurements (config/throughput, or those that `python -m bench.engines speed` writes on your
own host), prices of GPUs from config/gpu-hours.yaml or --hour. One worker on one GPU is meant, busy all the time.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from precision.cost import cheaper_up_to, price_at
from precision.profile import Precision
from precision.throughput import BadThroughput, Throughput, read_throughput
from precision.untyped import mapping

_PRICES = Path(__file__).parents[1] / "config" / "gpu-hours.yaml"


class CostProblem(Exception):
    """A file cannot be used; the message names it and says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.costs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="measured tokens/s of a profile, in JSON")
    parser.add_argument("--streams", default="1,8,32,64", help="of one worker (default: %(default)s)")
    parser.add_argument("--prices", type=Path, default=_PRICES, help="YAML: GPU to its price an hour")
    parser.add_argument("--hour", type=float, help="price of an hour of every GPU, instead")
    options = parser.parse_args()
    try:
        pools = [(path, measured(path)) for path in options.files]
        hours = [options.hour or hour_of(pool, options.prices) for _, pool in pools]
        streams = [int(count) for count in options.streams.split(",")]
        if min(streams) < 1:
            raise ValueError("want at least 1 stream")
    except (CostProblem, ValueError) as error:
        print(f"python -m bench.costs: {error}", file=sys.stderr)
        return 2
    for (path, pool), hour in zip(pools, hours, strict=True):
        print(f"{path.stem}: {_named(pool)} at {hour:g} an hour")
        for count in streams:
            speed, price = pool.tokens_per_s(count), price_at(pool, hour, count)
            print(f"  {count:5} streams  {speed:8.0f} tokens/s  {price:8.3f} a million")
    for line in _compared([pool for _, pool in pools], hours):
        print(line)
    return 0


def measured(path: Path) -> Throughput:
    """Raises CostProblem."""
    try:
        return read_throughput(mapping(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        hint = "" if isinstance(error, BadThroughput) else "; want a file as in config/throughput"
        raise CostProblem(f"{path}: {error}{hint}") from error


def hour_of(pool: Throughput, prices: Path) -> float:
    """The price of the GPU whose name is the longest that the pool's begins with. Raises CostProblem."""
    try:
        sheet: Mapping[str, object] = mapping(yaml.safe_load(prices.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise CostProblem(f"{prices}: {error}") from error
    for name in sorted(sheet, key=len, reverse=True):
        price = sheet[name]
        if pool.gpu.startswith(name) and isinstance(price, int | float) and price > 0:
            return float(price)
    raise CostProblem(f"{prices}: has no price for {pool.gpu or 'a GPU without a name'}; add one, or say --hour")


def _named(pool: Throughput) -> str:
    said = f"{pool.engine} {pool.engine_version}".strip()
    return f"{pool.precision.name} ({pool.compute_path.value}), {said} on {pool.gpu}"


def _compared(pools: list[Throughput], hours: list[float]) -> list[str]:
    """For each FP4 pool beside each FP8 one of the same engine: up to where FP4 is the cheaper one."""
    lines: list[str] = []
    for fp4, fp4_hour in zip(pools, hours, strict=True):
        for fp8, fp8_hour in zip(pools, hours, strict=True):
            if (fp4.precision, fp8.precision, fp4.engine) != (Precision.FP4, Precision.FP8, fp8.engine):
                continue
            bound = cheaper_up_to(fp4, fp4_hour, fp8, fp8_hour)
            most = min(fp4.points[-1][0], fp8.points[-1][0])
            if bound == most:
                lines.append(f"FP4 is never dearer than FP8, up to the {most} streams that were measured")
            elif bound:
                lines.append(f"FP4 is dearer than FP8 from {bound + 1} streams a worker on")
            else:
                lines.append("FP4 is dearer than FP8 already at one stream")
    return lines


if __name__ == "__main__":
    sys.exit(main())
