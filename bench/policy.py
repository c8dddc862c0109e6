"""What a decision costs: `python -m bench.policy`. Microseconds on one core, with a policy of twenty rules.

Prints the median of several rounds with their spread, for requests that match no rule and one. Fails nothing: times on
a shared machine say little alone.
"""

import statistics
import time
from collections.abc import Callable

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
    policy = read_policy(_DOCUMENT, "bench")
    print(f"{'microseconds, median (spread) of ' + str(_ROUNDS) + ' rounds':44} {'decide':>16} {'explain':>16}")
    for name, features in _CASES.items():
        cells = [_measure(function, features, policy) for function in (decide, explain)]
        print(f"{name:44} {cells[0]:>16} {cells[1]:>16}")
    began = time.perf_counter()
    for _ in range(50):
        read_policy(_DOCUMENT, "bench")
    print(f"\nreading and checking the document of {len(_DOCUMENT)} bytes: {(time.perf_counter() - began) * 20:.1f} ms")


def _measure(function: Callable[[Features, Policy, Gates, Pools], object], features: Features, policy: Policy) -> str:
    rounds: list[float] = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_CALLS):
            function(features, policy, _GATES, _POOLS)
        rounds.append((time.process_time() - began) / _CALLS * 1e6)
    return f"{statistics.median(rounds):.1f} ({min(rounds):.1f}-{max(rounds):.1f})"


if __name__ == "__main__":
    main()
