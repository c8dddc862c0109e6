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
_FIRSTS = 30
# Longer replies that come one by one, several from each caller.
_STEADY_TOKENS, _STEADY_REPLIES, _STEADY_STAGGER_S = 256, 4, 0.025


def alone(engine: str, model: str, args: Mapping[str, object]) -> Senders:
    """The engine by itself: requests and tokens pass in the process that loads it."""
    return Senders([Sender("bench.engines.alone", engine, model, json.dumps(args))])


def through(stack: GpuStack, pin: PrecisionName, clients: int) -> Senders:
    """So many clients' processes; the prompts of each are its own."""
    return Senders(
        [Sender("bench.engines.client", stack.target, pin, str(1_000_000 * (n + 1))) for n in range(clients)]
    )


def measure(
    ways: Mapping[str, Senders], stack: GpuStack, streams: Sequence[int], repeats: int, steady_repeats: int
) -> dict[str, Any]:
    """All figures: medians over the repeats, and every run. `ways` are "alone" and "through"."""
    bursts: dict[str, dict[int, list[dict[str, float]]]] = {way: {n: [] for n in streams} for way in ways}
    steadies: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    firsts: dict[str, list[float]] = {way: [] for way in ways}
    inside: list[float] = []
    for senders in ways.values():
        senders.run(Work(max(streams), 32))  # warms it up, and makes the connections
    for repeat in range(max(repeats, steady_repeats)):
        for way in sorted(ways, reverse=repeat % 2 == 1):
            senders = ways[way]
            if repeat < repeats:
                firsts[way] += _first_ms(senders.run(Work(1, 4, replies=_FIRSTS)))
                if way == "through":
                    inside += asyncio.run(_inside_ms(stack))
                for n in streams:
                    before = stack.cpu_s()
                    found = asdict(burst(senders.run(Work(n, _TOKENS))))
                    after = stack.cpu_s()
                    spent = {f"cpu_{part}_ms": 1000 * (after[part] - before[part]) for part in after}
                    bursts[way][n].append(found | (spent if way == "through" else {}))
            if repeat < steady_repeats:
                work = Work(max(streams), _STEADY_TOKENS, replies=_STEADY_REPLIES, stagger_s=_STEADY_STAGGER_S)
                steadies[way].append(asdict(steady(senders.run(work), work.streams, work.replies)))
    return _summary(bursts, firsts, inside) | {"steady": _steady_summary(steadies), "steady_runs": steadies}


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


def _summary(
    bursts: Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]],
    firsts: Mapping[str, Sequence[float]],
    inside: Sequence[float],
) -> dict[str, Any]:
    rows: list[dict[str, float]] = []
    for n in bursts["alone"]:
        row: dict[str, float] = {"streams": n}
        for way in ("alone", "through"):
            row |= {f"{way}_{key}": statistics.median(run[key] for run in bursts[way][n]) for key in bursts[way][n][0]}
        rows.append(row | {"ratio": row["through_tokens_per_s"] / row["alone_tokens_per_s"]})
    first = {f"{way}_p50": statistics.median(times) for way, times in firsts.items()}
    first |= {f"{way}_mean": statistics.mean(times) for way, times in firsts.items()}
    first |= {"added_p50": first["through_p50"] - first["alone_p50"]}
    # Beside the same engine: no noise between two.
    first |= {"inside_mean": statistics.mean(inside), "outside_mean": first["through_mean"] - statistics.mean(inside)}
    runs = {way: {str(n): list(found) for n, found in by.items()} for way, by in bursts.items()}
    return {"rows": rows, "first_token_ms": first, "runs": runs}


def _steady_summary(steadies: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, float]:
    if not steadies["alone"]:
        return {}
    found = {
        f"{way}_{key}": statistics.median(run[key] for run in runs) for way, runs in steadies.items() for key in runs[0]
    }
    return found | {"ratio": found["through_tokens_per_s"] / found["alone_tokens_per_s"]}


def table(found: Mapping[str, Any]) -> str:
    lines = [
        "streams  tok/s: alone  through  ratio  ms to the last first token: alone  through  to the end: alone  through"
    ]
    lines += [
        f"{row['streams']:7.0f} {row['alone_tokens_per_s']:13.0f} {row['through_tokens_per_s']:8.0f} "
        f"{row['ratio']:6.3f} {row['alone_first_last_ms']:34.1f} {row['through_first_last_ms']:8.1f} "
        f"{row['alone_whole_ms']:18.1f} {row['through_whole_ms']:8.1f}"
        for row in found["rows"]
    ]
    first = found["first_token_ms"]
    lines.append(
        f"first token, one stream, idle, p50 ms: alone {first['alone_p50']:.2f}, through {first['through_p50']:.2f}, "
        f"added {first['added_p50']:.2f}; beside the same engine, in the mean: {first['outside_mean']:.2f}"
    )
    if at_ease := found["steady"]:
        lines.append(
            f"streams one by one, {_STEADY_TOKENS} tokens, tok/s: alone {at_ease['alone_tokens_per_s']:.0f}, "
            f"through {at_ease['through_tokens_per_s']:.0f}, ratio {at_ease['ratio']:.3f}; first token p50 ms: alone "
            f"{at_ease['alone_first_p50_ms']:.1f}, through {at_ease['through_first_p50_ms']:.1f}"
        )
    return "\n".join(lines)


def throughput_file(found: Mapping[str, Any], receipt: Mapping[str, object], path: Path, way: str, what: str) -> None:
    """Writes what `bench.costs` reads: tokens a second of one engine by streams, for a profile. `what` was measured."""
    measured = [
        {"streams": int(row["streams"]), "tokens_per_s": round(row[f"{way}_tokens_per_s"], 1)} for row in found["rows"]
    ]
    workload = f"{_TOKENS} tokens in, {_TOKENS} out, greedy, one worker on one GPU, {what}"
    written = {"profile": receipt, "workload": workload, "measured": measured}
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
