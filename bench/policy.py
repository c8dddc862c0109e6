"""What a decision costs: `python -m bench.policy [--json OUT]`. Microseconds on one core, with twenty rules.

Prints the median of several rounds with their spread, for requests that match no rule and one. Fails nothing: times on
a shared machine say little alone.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from bench.results import save
from bench.service.report import Figure
from precision.decision import Features, GateState, PoolView, TaskSource
from precision.policy import Gates, Policy, Pools, decide, explain
from precision.policy.document import read_policy
from precision.profile import Precision
from precision.tasks import Task

_ROUNDS = 9
_CALLS = 2000
_RULES = "\n".join(
    f"""
  - name: team-{number}
    match:
      task: [chat, code, math]
      labels: {{team: "team-{number}-*"}}
      tokens: {{min: {number}, max: 4000}}
    {("use: FP8", "at_least: FP8", "forbid: FP4", "use: FP4")[number % 4]}"""
    for number in range(20)
)
_DOCUMENT = f"""
map: {{code: FP4}}
rules:{_RULES}
never_below: {{add: [reasoning]}}
brownout: {{tasks: [math]}}
"""

_POOLS: Pools = {
    precision: PoolView(f"m/{precision.name.lower()}", precision, 2, 32, 3, True)
    for precision in (Precision.FP4, Precision.FP8)
}
_GATES: Gates = dict.fromkeys(Task, GateState.PASSED)


def _features(task: Task, **labels: str) -> Features:
    return Features(task, TaskSource.CLASSIFIER, 0.93, 120, risk=0.1, model="m", labels=labels, language="en")


_CASES = {
    "no rule matches by task": _features(Task.SUMMARIZATION),
    "no rule matches by label": _features(Task.CHAT, team="sales"),
    "the last rule matches": _features(Task.CHAT, team="team-19-eu"),
    "high sensitivity": _features(Task.MATH, team="sales"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.policy", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there too")
    out: Path | None = parser.parse_args().json
    policy = read_policy(_DOCUMENT, "bench")
    lines = [f"| us, median (spread) of {_ROUNDS} rounds | decide | explain |", "| --- | --- | --- |"]
    figures: dict[str, dict[str, list[float]]] = {}
    for name, features in _CASES.items():
        figures[name] = {call.__name__: _measure(call, features, policy) for call in (decide, explain)}
        cells = [Figure.of(rounds).text(1) for rounds in figures[name].values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    markdown = "\n".join(lines)
    print(markdown)
    began = time.perf_counter()
    for _ in range(50):
        read_policy(_DOCUMENT, "bench")
    print(f"\nreading and checking the document of {len(_DOCUMENT)} bytes: {(time.perf_counter() - began) * 20:.1f} ms")
    save(out, {"rounds": _ROUNDS, "us": figures, "markdown": markdown})


def _measure(
    function: Callable[[Features, Policy, Gates, Pools], object], features: Features, policy: Policy
) -> list[float]:
    """Microseconds a call, of each round."""
    rounds: list[float] = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_CALLS):
            function(features, policy, _GATES, _POOLS)
        rounds.append((time.process_time() - began) / _CALLS * 1e6)
    return rounds


if __name__ == "__main__":
    main()
