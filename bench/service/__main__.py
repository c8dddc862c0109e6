"""The whole service under load: `python -m bench.service [--rounds N] [--case NAME ...] [--json FILE] [--plain]`.

Starts all that it measures: a model server that is asked directly, a plain gRPC proxy before it (the floor), and
bitlane with an embedded Redis, a router and two workers whose engine sends the same tokens. The variants take turns in
every round, in another order each time, so that whatever else the machine does meets all alike. Prints a table for each
case and the budgets; fails on no figure.
"""

import argparse
import sys
from pathlib import Path

from bench.service.budgets import budgets, conclude
from bench.service.cases import CASES
from bench.service.measure import RoundFailed, run
from bench.service.variants import variants


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.service", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="default: all")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plain", action="store_true", help="bitlane without quotas, metrics and traces")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if not arguments.case or case.name in arguments.case]
    try:
        results = run(chosen, arguments.rounds, lambda token_ms: variants(token_ms, not arguments.plain))
    except RoundFailed as failed:
        print(f"bench.service: {failed}", file=sys.stderr)
        return 1
    found = budgets(results)
    conclude(arguments.json, arguments.rounds, CASES, results, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
