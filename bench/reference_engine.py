"""Speed of the reference engine on one core: `python -m bench.reference_engine [--json OUT] [--repeats N]`.

Each measurement is a process of its own, with one BLAS thread; profiles take turns, so that what else the machine does
falls on all of them alike, and medians are shown. Nothing fails on a time: other machines have other times.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from workers.engine import Job, Message, Sampling
from workers.engines.reference import ReferenceEngine

PROFILES = ("fp8", "nvfp4")

_STREAMS = 16
_CHAT = (Message("user", "Tell me a long story about a lighthouse."),)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `target` is a text, or one a profile."""

    key: str
    label: str
    unit: str
    target: str | dict[str, str] = ""


FIGURES = (
    Figure("load_cold_s", "load, first start ever (quantizes)", "s", "< 15"),
    Figure("load_s", "load, from the cache", "s", "< 10"),
    Figure("one_stream", "1 stream", "tokens/s", {"fp8": ">= 12", "nvfp4": ">= 10"}),
    Figure("streams", f"{_STREAMS} streams together", "tokens/s", ">= 50"),
    Figure("first_token_s", "first token of a short chat, idle", "s"),
    Figure("gap_ms", "between tokens of a running reply", "ms"),
    Figure("gap_beside_prompt_ms", "the same, while a 400-token prompt comes in", "ms"),
    Figure("long_first_token_s", "first token of that prompt", "s"),
    Figure("peak_rss_mib", "peak memory", "MiB", "< 1536"),
)


async def measure(profile: str) -> dict[str, float]:
    """All figures of one profile, in this process, whose peak memory is one of them."""
    began = time.perf_counter()
    engine = ReferenceEngine(profile, slots=_STREAMS)
    await engine.start()
    loaded = time.perf_counter() - began

    async def times(name: str, tokens: int, prompt: str | None = None) -> list[float]:
        """When each token came, in seconds since the request."""
        # Sampled, because a greedy reply of this model soon ends.
        sampling = Sampling(tokens, temperature=1.0, seed=1)
        job = Job(name, sampling, prompt) if prompt else Job(name, sampling, messages=_CHAT)
        asked = time.perf_counter()
        return [time.perf_counter() - asked async for delta in engine.generate(job) if delta.token_ids]

    alone = await times("alone", 64)
    asked = time.perf_counter()
    together = await asyncio.gather(*(times(str(i), 32, "The lighthouse") for i in range(_STREAMS)))
    took = time.perf_counter() - asked

    running = asyncio.create_task(times("running", 64))
    begun = time.perf_counter()
    await asyncio.sleep(1)
    asked = time.perf_counter() - begun
    (long,) = await times("long", 1, "word " * 400)
    stamps = await running
    await engine.close()
    beside = [b - a for a, b in pairwise(stamps) if asked < b < asked + long]
    return {
        "load_s": loaded,
        "one_stream": (len(alone) - 1) / (alone[-1] - alone[0]),
        "streams": sum(map(len, together)) / took,
        "first_token_s": alone[0],
        "gap_ms": 1000 * statistics.median(b - a for a, b in pairwise(alone)),
        "gap_beside_prompt_ms": 1000 * statistics.median(beside) if beside else float("nan"),
        "long_first_token_s": long,
        # In KiB, but in bytes on macOS.
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / (2**20 if sys.platform == "darwin" else 2**10),
    }


def in_a_process(profile: str, cache: str | None = None) -> dict[str, float]:
    """Measures in a new process; with a cache directory of its own, if given."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"} | ({"BITLANE_CACHE_DIR": cache} if cache else {})
    command = [sys.executable, "-m", "bench.reference_engine", "--measure", profile]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def table(medians: dict[str, dict[str, float]]) -> str:
    """The figures beside their targets."""
    width = max(len(figure.label) for figure in FIGURES)
    lines = [f"{'':{width}}  {'unit':9}" + "".join(f"{profile:>10}  {'target':8}" for profile in PROFILES).rstrip()]
    for figure in FIGURES:
        line = f"{figure.label:{width}}  {figure.unit:9}"
        for profile in PROFILES:
            target = figure.target if isinstance(figure.target, str) else figure.target[profile]
            line += f"{medians[profile][figure.key]:10.{0 if figure.unit == 'MiB' else 2}f}  {target:8}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write all figures, of each repeat, to a file")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=PROFILES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(asyncio.run(measure(options.measure))))
        return
    runs: dict[str, list[dict[str, float]]] = {profile: [] for profile in PROFILES}
    for repeat in range(options.repeats):
        for profile in PROFILES:
            print(f"repeat {repeat + 1} of {options.repeats}: {profile}", file=sys.stderr, flush=True)
            # The first start with an empty cache quantizes, the second finds it done.
            with tempfile.TemporaryDirectory() as cache:
                cold = in_a_process(profile, cache) if repeat == 0 else None
                run = in_a_process(profile, cache if cold else None)
            runs[profile].append(run | ({"load_cold_s": cold["load_s"]} if cold else {}))
    medians = {
        profile: {f.key: statistics.median(run[f.key] for run in measured if f.key in run) for f in FIGURES}
        for profile, measured in runs.items()
    }
    print(table(medians))
    if options.json:
        options.json.write_text(json.dumps({"medians": medians, "runs": runs}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
