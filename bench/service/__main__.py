"""The whole service under load: `python -m bench.service [--rounds N] [--case NAME ...] [--json FILE] [--plain]`.

Starts all that it measures: a model server that is asked directly, a plain gRPC proxy before it (the floor), and
bitlane with an embedded Redis, a router and two workers whose engine sends the same tokens. The variants take turns in
every round, in another order each time, so that whatever else the machine does meets all alike. Prints a table for each
case and the budgets; fails on no figure.
"""

import argparse
import itertools
import json
import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path

from bench.service import budgets
from bench.service.cases import CASES, Case
from bench.service.measure import Round, RoundFailed, measure
from bench.service.report import as_json, table
from bench.service.variants import Variant, variants


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.service", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="default: all")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plain", action="store_true", help="bitlane without quotas, metrics and traces")
    parser.add_argument("--processes", type=int, default=1, help="bitlane once more with so many routers on one port")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if not arguments.case or case.name in arguments.case]
    results: dict[str, dict[str, list[Round]]] = {}
    try:
        for token_ms, cases in itertools.groupby(sorted(chosen, key=lambda case: case.token_ms), lambda c: c.token_ms):
            with variants(token_ms, not arguments.plain, arguments.processes) as started:
                for case in cases:
                    results[case.name] = _run(case, started, arguments.rounds)
    except RoundFailed as failed:
        print(f"bench.service: {failed}", file=sys.stderr)
        return 1
    by_name = {case.name: case for case in CASES}
    print("\n\n".join(table(by_name[name], rounds) for name, rounds in results.items()), end="\n\n")
    found = budgets.budgets(results)
    print(budgets.table(found))
    if arguments.json:
        figures = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "rounds": arguments.rounds,
            "cases": {name: as_json(by_name[name], rounds) for name, rounds in results.items()},
            "budgets": [asdict(budget) for budget in found],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _run(case: Case, started: list[Variant], rounds: int) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {variant.name: [] for variant in started}
    warm_up = replace(case, requests=max(case.at_once, case.requests // 10))
    for variant in started:
        measure(variant, warm_up.work(variant.target, "warm-up"))
    for number in range(rounds):
        print(f"{case.name}: round {number + 1} of {rounds}", file=sys.stderr)
        for variant in started[number % len(started) :] + started[: number % len(started)]:
            found[variant.name].append(measure(variant, case.work(variant.target, str(number))))
    return found


if __name__ == "__main__":
    sys.exit(main())
