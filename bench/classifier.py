"""What the classifier costs: `python -m bench.classifier [--json OUT]`. Milliseconds on one core, against the budgets.

Short prompts, 2 KB and 100 KB, each of several kinds of text, and a decision on top. Nothing fails on a time: what else
the machine does shows in the p99.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bench.results import save
from classifier.evaluate import percentile
from classifier.model import load
from precision.decision import Features, PoolView, TaskSource
from precision.policy import Gates, Policy, Pools, decide
from precision.profile import Precision
from precision.tasks import Task

_CALLS = 1_000
_SHORT = (
    "hey, how was your weekend?",
    "Is a verbal contract binding in Texas?",
    "Write a python function that reverses a list",
    "What is 17 * 23?",
    "¿Puedo tomar ibuprofeno con café?",
)
_LONG = (
    "Summarize this: The old harbour was rebuilt in 1931, and the fish market moved to its northern pier. ",
    "def total(items):\n    return sum(item.price * item.count for item in items if item.price > 0)\n",
    "Item | 2019 | 2018\nRevenue | 1,204.5 | 1,150.2\nNet income | 88.1 | (12.4)\n",
    "The Supplier shall indemnify the Buyer against all claims arising out of or in connection with Section 9.2. ",
    "这家小店开在老街上，每天早上六点开门，卖豆浆和油条，邻居们都喜欢来这里聊天。",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table, in milliseconds."""

    label: str
    p50: float
    p99: float
    budget: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.classifier", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there too")
    out: Path | None = parser.parse_args().json
    started = time.perf_counter()
    classify = load()
    print(f"weights loaded in {1e3 * (time.perf_counter() - started):.0f} ms")
    figures = [
        _measure("classify, short", [partial(classify, text) for text in _SHORT], "p50 1"),
        _measure("classify, 2 KB", [partial(classify, _sized(text, 2_000)) for text in _LONG], "p50 1, p99 5"),
        _measure("classify, 100 KB", [partial(classify, _sized(text, 100_000)) for text in _LONG], "10"),
        _measure("decide, default policy", [_decision()], "0.02"),
    ]
    lines = ["| milliseconds | p50 | p99 | budget |", "| --- | --- | --- | --- |"]
    lines += [f"| {figure.label} | {figure.p50:.3f} | {figure.p99:.3f} | {figure.budget} |" for figure in figures]
    markdown = "\n".join(lines)
    print(markdown)
    save(out, {"figures": [asdict(figure) for figure in figures], "markdown": markdown})


def _measure(label: str, calls: Sequence[Callable[[], object]], budget: str) -> Figure:
    """Each call in turn, so that what else the machine does falls on all alike."""
    seconds: list[float] = []
    for _ in range(_CALLS // len(calls)):
        for call in calls:
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
    seconds.sort()
    return Figure(label, 1e3 * percentile(seconds, 0.5), 1e3 * percentile(seconds, 0.99), budget)


def _sized(text: str, size: int) -> str:
    """The text again and again, up to a size in UTF-8."""
    repeated = text * (size // len(text.encode()) + 1)
    return repeated.encode()[:size].decode(errors="ignore")


def _decision() -> Callable[[], object]:
    features = Features(Task.CHAT, TaskSource.CLASSIFIER, 0.93, 120, risk=0.1, model="m", labels={}, language="en")
    policy = Policy()
    gates: Gates = {}
    pools: Pools = {
        precision: PoolView(f"m/{precision.name.lower()}", precision, 2, 32, 3, True)
        for precision in (Precision.FP4, Precision.FP8)
    }
    return lambda: decide(features, policy, gates, pools)


if __name__ == "__main__":
    main()
