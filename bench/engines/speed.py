"""Tokens a second and time to the first token, through the service and by the engine alone, taking turns in one run."""

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.engines.load import first_tokens, prompts, run
from bench.engines.stack import MODEL, GpuStack
from bitlane import AsyncClient, PrecisionName
from precision.untyped import mapping

_TOKENS = 128
_FIRSTS = 30


class Alone:
    """The child that runs the engine by itself."""

    def __init__(self, engine: str, model: str, args: Mapping[str, object]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "bench.engines.alone", engine, model, json.dumps(args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> float:
        """Seconds that loading took. What else the engine prints is passed over."""
        return float(self._answer("ready")["ready"])

    def ask(self, key: str, **question: int) -> dict[str, Any]:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(question) + "\n")
        self._child.stdin.flush()
        return self._answer(key)

    def _answer(self, key: str) -> dict[str, Any]:
        assert self._child.stdout is not None
        while line := self._child.stdout.readline():
            try:
                found: object = json.loads(line)
            except ValueError:
                print(f"alone: {line.rstrip()}", file=sys.stderr)
                continue
            if key in mapping(found):
                return dict(mapping(found))
        raise RuntimeError("the engine alone ended; its output is above")

    def close(self) -> None:
        self._child.kill()
        self._child.wait()


@dataclass(frozen=True, slots=True)
class Through:
    """Streams through the service."""

    client: AsyncClient
    pin: PrecisionName
    texts: Iterator[str] = field(default_factory=lambda: prompts(500_000))

    async def stream(self, number: int, tokens: int) -> AsyncIterator[int]:
        del number
        text = next(self.texts)
        async with self.client.stream(text, model=MODEL, pin=self.pin, max_tokens=tokens, temperature=0.0) as deltas:
            async for delta in deltas:
                yield len(delta.token_ids)


async def measure(
    alone: Alone, stack: GpuStack, pin: PrecisionName, streams: Sequence[int], repeats: int
) -> dict[str, object]:
    """All figures: medians over the repeats, and every run."""
    runs: dict[str, dict[int, list[dict[str, float]]]] = {way: {n: [] for n in streams} for way in ("alone", "through")}
    firsts: dict[str, list[float]] = {"alone": [], "through": []}
    async with stack.client() as client:
        through = Through(client, pin)
        await run(through.stream, max(streams), 32)  # warms both up
        alone.ask("tokens_per_s", streams=max(streams), tokens=32)
        for repeat in range(repeats):
            for way in ("alone", "through") if repeat % 2 == 0 else ("through", "alone"):
                if way == "alone":
                    firsts[way] += alone.ask("first_ms", first=_FIRSTS)["first_ms"]
                else:
                    firsts[way] += await first_tokens(through.stream, _FIRSTS)
                for n in streams:
                    if way == "alone":
                        answer = await asyncio.to_thread(alone.ask, "tokens_per_s", streams=n, tokens=_TOKENS)
                    else:
                        answer = (await run(through.stream, n, _TOKENS)).as_json()
                    runs[way][n].append(answer)
    return _summary(runs, firsts)


def _summary(
    runs: Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]], firsts: Mapping[str, Sequence[float]]
) -> dict[str, object]:
    rows: list[dict[str, float]] = []
    for n in runs["alone"]:
        alone, through = (_median(runs[way][n], "tokens_per_s") for way in ("alone", "through"))
        rows.append(
            {
                "streams": n,
                "alone_tokens_per_s": alone,
                "through_tokens_per_s": through,
                "ratio": through / alone,
                "alone_first_p50_ms": _median(runs["alone"][n], "first_p50_ms"),
                "through_first_p50_ms": _median(runs["through"][n], "first_p50_ms"),
            }
        )
    first = {way: statistics.median(times) for way, times in firsts.items()}
    return {
        "rows": rows,
        "first_token_ms": first | {"added": first["through"] - first["alone"]},
        "runs": {way: {str(n): list(found) for n, found in by.items()} for way, by in runs.items()},
    }


def _median(runs: Sequence[Mapping[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def table(found: Mapping[str, Any]) -> str:
    lines = ["streams   alone tok/s   through tok/s   ratio   first alone ms   first through ms"]
    lines += [
        f"{row['streams']:7.0f} {row['alone_tokens_per_s']:13.0f} {row['through_tokens_per_s']:15.0f} "
        f"{row['ratio']:7.3f} {row['alone_first_p50_ms']:16.1f} {row['through_first_p50_ms']:18.1f}"
        for row in found["rows"]
    ]
    first = found["first_token_ms"]
    lines.append(
        f"first token, one stream, idle: alone {first['alone']:.2f} ms, through {first['through']:.2f} ms, "
        f"added {first['added']:.2f} ms"
    )
    return "\n".join(lines)


def throughput_file(found: Mapping[str, Any], receipt: Mapping[str, object], path: Path) -> None:
    """Writes what `bench.costs` reads: tokens a second of one worker by streams, for a profile."""
    measured = [
        {"streams": int(row["streams"]), "tokens_per_s": round(row["through_tokens_per_s"], 1)} for row in found["rows"]
    ]
    workload = f"{_TOKENS} tokens in, {_TOKENS} out, greedy, one worker on one GPU, through the whole service"
    written = {"profile": receipt, "workload": workload, "measured": measured}
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
