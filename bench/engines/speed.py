"""Tokens a second and time to the first token, through the service and by the engine alone, taking turns in one run."""

import asyncio
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.engines.load import Stamps, Work, burst, steady
from bench.engines.sender import Sender, Senders
from bench.engines.stack import GpuStack
from bitlane import PrecisionName

_TOKENS = 128
_FIRSTS = 20
# Longer replies that come one by one, several from each caller.
_STEADY_TOKENS, _STEADY_REPLIES, _STEADY_STAGGER_S = 256, 4, 0.025


def alone(engine: str, model: str, args: Mapping[str, object]) -> Senders:
    """The engine by itself: requests and tokens pass in the process that loads it."""
    return Senders([Sender("bench.engines.alone", engine, model, json.dumps(args))])


def through(target: str, pin: PrecisionName, clients: int, way: int) -> Senders:
    """So many clients' processes. The prompts of each are its own, and those of each of the ways through, from 1 on:
    a prefix cache would make the second one quicker.
    """
    firsts = [str(1_000_000 * (way + 1) + 50_000 * n) for n in range(clients)]
    return Senders([Sender("bench.engines.client", target, pin, first) for first in firsts])


Figures = Mapping[str, float]


def measure(
    ways: Mapping[str, Senders], stack: GpuStack, streams: Sequence[int], repeats: int, steady_repeats: int
) -> dict[str, Any]:
    """All figures: medians over the repeats, and every run. The first of the ways is the engine alone."""
    bursts: dict[str, dict[int, list[dict[str, float]]]] = {way: {n: [] for n in streams} for way in ways}
    steadies: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    firsts: dict[str, list[float]] = {way: [] for way in ways}
    inside: dict[str, list[float]] = {way: [] for way in list(ways)[1:]}
    for senders in ways.values():
        senders.run(Work(max(streams), 32))  # warms it up, and makes the connections
    for repeat in range(max(repeats, steady_repeats)):
        for way in list(ways)[:: -1 if repeat % 2 else 1]:
            senders = ways[way]
            if repeat < repeats:
                firsts[way] += _first_ms(senders.run(Work(1, 4, replies=_FIRSTS)))
                if way in inside:
                    inside[way] += asyncio.run(_inside_ms(stack))
                for n in streams:
                    before = stack.cpu_s()
                    found = asdict(burst(senders.run(Work(n, _TOKENS))))
                    after = stack.cpu_s()
                    bursts[way][n].append(
                        found | {f"cpu_{part}_ms": 1000 * (after[part] - before[part]) for part in after}
                    )
            if repeat < steady_repeats:
                work = Work(max(streams), _STEADY_TOKENS, replies=_STEADY_REPLIES, stagger_s=_STEADY_STAGGER_S)
                steadies[way].append(asdict(steady(senders.run(work), work.streams, work.replies)))
    return {
        "bursts": {way: {str(n): _medians(runs) for n, runs in by.items()} for way, by in bursts.items()},
        "steady": {way: _medians(runs) for way, runs in steadies.items() if runs},
        "first_token_ms": {way: _first_token(times, inside.get(way, [])) for way, times in firsts.items()},
        "runs": {way: {str(n): runs for n, runs in by.items()} for way, by in bursts.items()},
        "steady_runs": steadies,
    }


def _first_ms(stamps: Sequence[Stamps]) -> list[float]:
    return [1000 * (each.first - each.asked) for each in stamps]


async def _inside_ms(stack: GpuStack) -> list[float]:
    """Of the requests that came last: from the claim by the worker to the first chunk in the log.

    Whole milliseconds by the broker's clock, both cut off: right in the mean.
    """
    async with stack.operator() as client:
        recent = await client.admin.requests.recent(limit=_FIRSTS)
    return [
        1000 * (each.first_token_at - each.first_claimed_at).total_seconds()
        for each in recent
        if each.first_token_at is not None and each.first_claimed_at is not None
    ]


def _first_token(times: Sequence[float], inside: Sequence[float]) -> dict[str, float]:
    """`outside_mean` is what passes before and after the engine: beside one engine, so without the noise of two."""
    found = {"p50": statistics.median(times), "mean": statistics.mean(times)}
    return found | ({"outside_mean": found["mean"] - statistics.mean(inside)} if inside else {})


def _medians(runs: Sequence[Figures]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def table(found: Mapping[str, Any]) -> str:
    """For people. Shares are of the first way, the engine alone."""
    alone, *others = found["bursts"]
    lines = ["streams  way           tok/s   share   last first token ms   to the end ms"]
    for n in found["bursts"][alone]:
        for way in (alone, *others):
            row, base = found["bursts"][way][n], found["bursts"][alone][n]
            share = row["tokens_per_s"] / base["tokens_per_s"]
            lines.append(
                f"{n:>7}  {way:12} {row['tokens_per_s']:7.0f} {share:7.3f} {row['first_last_ms']:21.1f} "
                f"{row['whole_ms']:15.1f}"
            )
    for way, row in found["steady"].items():
        share = row["tokens_per_s"] / found["steady"][alone]["tokens_per_s"]
        lines.append(
            f"one by one, {way}: {row['tokens_per_s']:.0f} tok/s, share {share:.3f}; first token p50 "
            f"{row['first_p50_ms']:.1f} ms, p99 {row['first_p99_ms']:.1f} ms"
        )
    for way, first in found["first_token_ms"].items():
        added = first["p50"] - found["first_token_ms"][alone]["p50"]
        lines.append(
            f"first token, {way}: p50 {first['p50']:.2f} ms, added {added:.2f} ms; outside of the engine, in the mean: "
            f"{first.get('outside_mean', 0.0):.2f} ms"
        )
    return "\n".join(lines)


def throughput_file(found: Mapping[str, Any], receipt: Mapping[str, object], path: Path, way: str, what: str) -> None:
    """Writes what `bench.costs` reads: tokens a second of one engine by streams, for a profile. `what` was measured."""
    measured = [
        {"streams": int(n), "tokens_per_s": round(row["tokens_per_s"], 1)} for n, row in found["bursts"][way].items()
    ]
    workload = f"{_TOKENS} tokens in, {_TOKENS} out, greedy, one worker on one GPU, {what}"
    written = {"profile": receipt, "workload": workload, "measured": measured}
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
