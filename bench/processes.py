"""What more router processes on one port bring: `python -m bench.processes [--routers 1,2,4] [--rounds N]`.

Streams of 64 tokens and requests without a stream, from so many client processes and to so many workers that a router
is what is short, as long as the machine has cores for all: how many were busy is told beside every figure. The numbers
of routers take turns in each round. Fails on no figure.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bench.results import save
from bench.service import parts
from bench.service.budgets import Budget, table
from bench.service.cases import Case
from bench.service.measure import Round, RoundFailed, run
from bench.service.report import STREAMS_A_SECOND, Column, Rounds, as_json, figure, ratio
from bench.service.variants import Variant, of_stack
from deploy.local.stack import POOLS, Stack

_CASES = (
    Case("unary", "Complete, 1 token", 0, requests=1500, at_once=64, tokens=1, stream=False),
    Case("flood", "64 tokens as fast as they come", 0, requests=750, at_once=64),
)
_WANTED = 1.8


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.processes", description=__doc__)
    parser.add_argument("--routers", default="1,2", help="numbers of router processes")
    parser.add_argument("--workers", type=int, default=4, help="of the pool that serves")
    parser.add_argument("--clients", type=int, default=4, help="processes that send")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.routers.split(",")]
    cases = [replace(case, clients=arguments.clients) for case in _CASES]
    try:
        found = run(cases, arguments.rounds, lambda token_ms: _variants(token_ms, counts, arguments.workers))
    except RoundFailed as failed:
        print(f"bench.processes: {failed}", file=sys.stderr)
        return 1
    budgets = _budgets(found, os.cpu_count() or 1)
    markdown = "\n\n".join([*(_table(name, rounds) for name, rounds in found.items()), table(budgets)])
    print(markdown)
    sizes = {"workers": arguments.workers, "clients": arguments.clients}
    save(arguments.json, {**sizes, "cases": as_json(cases, found), "markdown": markdown})
    return 0


@contextmanager
def _variants(token_ms: float, counts: Sequence[int], workers: int) -> Generator[list[Variant]]:
    """One stack, by numbers of routers."""
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
        stack = Stack(
            engine="scripted",
            engine_options=json.dumps({"token_ms": token_ms, "slots": 1024}),
            config=parts.configuration(folder),
            telemetry=started.enter_context(parts.telemetry(True)),
        )
        started.enter_context(stack).start()
        for _ in range(workers - 1):
            stack.add_worker(POOLS[0])
            stack.wait_for_worker(POOLS[0])
        variants: list[Variant] = []
        for count in counts:
            target, pids = parts.routers_of(stack, count)
            (own,) = of_stack(stack, str(count))
            variants.append(replace(own, target=target, roles={**own.roles, "proxy": pids}))
        yield variants


def _busy(role: str) -> Column:
    return Column(f"{role} cores", lambda one: one.cpu_s[role] / one.seen.seconds)


def _all_busy(one: Round) -> float:
    """Clients load for a moment before they send: busy is told for the time in which they all did."""
    return (sum(one.cpu_s.values()) + one.seen.cpu_s) / one.seen.seconds


_CORES, _ROUTERS, _REDIS = Column("cores", _all_busy, 1), _busy("proxy"), _busy("redis")


def _table(name: str, rounds: Rounds) -> str:
    lines = [f"### {name}", "", "| routers | requests/s | times the first | cores busy | of them routers | Redis |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    first = next(iter(rounds))
    for count, own in rounds.items():
        rate = figure(own, STREAMS_A_SECOND)
        busy = [f"{one.median:.2f}" for column in (_CORES, _ROUTERS, _REDIS) if (one := figure(own, column))]
        times = ratio(rounds, STREAMS_A_SECOND, count, first)
        lines.append(f"| {count} | {rate.text(0) if rate else '-'} | {times.text()} | {' | '.join(busy)} |")
    return "\n".join(lines)


def _budgets(found: Mapping[str, Rounds], cores: int) -> list[Budget]:
    """Nothing is said where the machine was full: then more routers cannot bring more."""
    judged: list[Budget] = []
    for name, rounds in found.items():
        if "1" in rounds and "2" in rounds and (busy := figure(rounds["2"], _CORES)):
            times = ratio(rounds, STREAMS_A_SECOND, "2", "1")
            free = busy.median < cores - 1
            measured = f"{times.text()} x" + ("" if free else f", all {cores} cores busy")
            met = times.median >= _WANTED if free else None
            judged.append(Budget(f"two router processes, {name}", f">= {_WANTED} x one", measured, met))
    return judged


if __name__ == "__main__":
    sys.exit(main())
