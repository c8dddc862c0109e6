"""bitlane beside LiteLLM, smg and sglang-router: `python -m bench.peers [--rounds N] [--case NAME] [--peer NAME]`.

`make bench-peers` installs the peers, each into an environment of its own, and runs this. One mock model server answers
for all. The variants take turns in every round, in another order each time. Prints a table for each case and the
budgets; fails on no figure.

What is not alike: peers are spoken to by HTTP and server-sent events, bitlane by gRPC, each by the cheapest client that
there is in Python, and clients' CPU is told apart; bitlane keeps every token in Redis and survives the death of any
process, authenticates, classifies, decides, counts quotas and traces 1 %; LiteLLM checks one key; smg and sglang-router
pass bytes on. They use all cores of the machine, LiteLLM and one bitlane router use one.
"""

import argparse
import sys
from pathlib import Path

from bench.peers.budgets import budgets
from bench.peers.cases import CASES
from bench.peers.catalogue import PEERS, chosen
from bench.peers.processes import PeerFailed
from bench.peers.variants import BITLANE_HTTP, variants
from bench.service.budgets import conclude
from bench.service.measure import RoundFailed, run
from bench.service.variants import BITLANE


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="default: all")
    parser.add_argument("--peer", action="append", choices=[peer.name for peer in PEERS], help="default: all")
    parser.add_argument("--processes", type=int, default=2, help="bitlane once more with so many routers on one port")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    peers = chosen(arguments.peer or [])
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    try:
        results = run(cases, arguments.rounds, lambda token_ms: variants(token_ms, peers, arguments.processes))
    except (PeerFailed, RoundFailed) as failed:
        print(f"bench.peers: {failed}", file=sys.stderr)
        return 1
    found = [budget for own in (BITLANE, BITLANE_HTTP) for budget in budgets(results, own)]
    conclude(
        arguments.json, arguments.rounds, CASES, results, found, versions={peer.name: peer.version() for peer in peers}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
