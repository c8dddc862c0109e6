"""Whether costs grow: `python -m bench.growth [--rounds N] [--by WHAT ...] [--json FILE]`.

CPU of the router, and of Redis, for a request: by the number of tenants that requests come from, by how many requests
wait already, and by how many other streams are open and idle, with the memory that each of these takes, also in a proxy
that does nothing. The numbers take turns in every round. Fails on no figure.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from bench.growth.curve import Curve, table
from bench.growth.streams import measure_streams
from bench.growth.tenants import measure_tenants
from bench.growth.waiting import measure_waiting
from bench.results import save

_BY: Mapping[str, Callable[[int], list[Curve]]] = {
    "tenants": measure_tenants,
    "waiting": measure_waiting,
    "streams": measure_streams,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--by", action="append", choices=list(_BY), help="default: all")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    found = {what: _BY[what](arguments.rounds) for what in arguments.by or _BY}
    markdown = "\n\n".join(table(curves) for curves in found.values())
    print(markdown)
    save(
        arguments.json,
        {
            "rounds": arguments.rounds,
            "curves": {what: [asdict(curve) for curve in curves] for what, curves in found.items()},
            "markdown": markdown,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
