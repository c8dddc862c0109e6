"""What more router processes on one port bring: `python -m bench.processes [--routers 1,2,4] [--rounds N]`.

Streams of 64 tokens and requests without a stream, from so many client processes and to so many workers that a router
is what is short, as long as the machine has cores for all: how many were busy is told beside every figure. The numbers
of routers take turns in each round. Fails on no figure.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.results import save
from bench.service import parts
from bench.service.budgets import Budget, table
from bench.service.load import Seen, Work
from bench.service.measure import RoundFailed
from bench.service.report import Figure
from bench.service.variants import Variant, of_stack
from deploy.local.stack import POOLS, Stack

_CASES = {
    "unary": Work(target="", requests=1500, at_once=64, tokens=1, stream=False),
    "flood": Work(target="", requests=750, at_once=64, tokens=64),
}
_LIMIT_S = 120
_WANTED = 1.8


@dataclass(frozen=True, slots=True)
class Round:
    """Of all clients together."""

    requests_per_s: float
    busy: Mapping[str, float]  # cores, by role

    @property
    def cores(self) -> float:
        return sum(self.busy.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.processes", description=__doc__)
    parser.add_argument("--routers", default="1,2", help="numbers of router processes")
    parser.add_argument("--workers", type=int, default=4, help="of the pool that serves")
    parser.add_argument("--clients", type=int, default=4, help="processes that send")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.routers.split(",")]
    try:
        found = _measure(counts, arguments.workers, arguments.clients, arguments.rounds)
    except RoundFailed as failed:
        print(f"bench.processes: {failed}", file=sys.stderr)
        return 1
    cores = os.cpu_count() or 1
    markdown = "\n\n".join([*(_table(case, rounds) for case, rounds in found.items()), table(_budgets(found, cores))])
    print(markdown)
    rounds = {case: {n: [asdict(one) for one in own] for n, own in by.items()} for case, by in found.items()}
    save(
        arguments.json,
        {"workers": arguments.workers, "clients": arguments.clients, "cases": rounds, "markdown": markdown},
    )
    return 0


def _measure(counts: Sequence[int], workers: int, clients: int, rounds: int) -> dict[str, dict[int, list[Round]]]:
    """Rounds by case and number of routers."""
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
        stack = Stack(
            engine="scripted",
            engine_options=json.dumps({"token_ms": 0, "slots": 1024}),
            config=parts.configuration(folder),
            telemetry=started.enter_context(parts.telemetry(True)),
        )
        started.enter_context(stack).start()
        for _ in range(workers - 1):
            stack.add_worker(POOLS[0])
            stack.wait_for_worker(POOLS[0])
        variants: dict[int, Variant] = {}
        for count in counts:
            target, pids = parts.routers_of(stack, count)
            (own,) = of_stack(stack, str(count))
            variants[count] = replace(own, target=target, roles={**own.roles, "proxy": pids})
        found: dict[str, dict[int, list[Round]]] = {}
        for case, work in _CASES.items():
            found[case] = {count: [] for count in counts}
            for number in range(rounds + 1):
                print(f"{case}: round {number} of {rounds}", file=sys.stderr)
                for count in counts[:: -1 if number % 2 else 1]:
                    one = _together(variants[count], work, clients, f"{case} {number}")
                    if number:  # the first one warms up
                        found[case][count].append(one)
        return found


def _together(variant: Variant, work: Work, clients: int, tag: str) -> Round:
    """The work of one round, shared among clients that start together. Raises RoundFailed when a request failed."""
    each = replace(work, target=variant.target, requests=work.requests // clients, at_once=work.at_once // clients)
    works = [replace(each, tag=f"{tag} {number}") for number in range(clients)]
    before = variant.cpu_s()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", variant.client, json.dumps(asdict(one))], stdout=subprocess.PIPE, text=True
        )
        for one in works
    ]
    seen = [Seen(**json.loads(client.communicate(timeout=_LIMIT_S)[0])) for client in running]
    cpu_s = {role: cpu - before[role] for role, cpu in variant.cpu_s().items()}
    wrong = [one.wrong for one in seen if one.wrong]
    if wrong:
        raise RoundFailed(f"{tag}, {variant.name} routers: {wrong}")
    # Clients load for a moment before they send: what was busy is told for the time in which they all did.
    sending = max(one.seconds for one in seen)
    busy = {role: cpu / sending for role, cpu in {**cpu_s, "client": sum(one.cpu_s for one in seen)}.items()}
    return Round(sum(len(one.whole_s) for one in seen) / sending, busy)


def _table(case: str, found: Mapping[int, Sequence[Round]]) -> str:
    lines = [f"### {case}", "", "| routers | requests/s | times the first | cores busy | of them routers, Redis |"]
    lines.append("| --- | --- | --- | --- | --- |")
    first = next(iter(found.values()))
    for count, rounds in found.items():
        rate = Figure.of([one.requests_per_s for one in rounds])
        cores, routers, redis = (
            statistics.median(values)
            for values in (
                [one.cores for one in rounds],
                [one.busy["proxy"] for one in rounds],
                [one.busy["redis"] for one in rounds],
            )
        )
        lines.append(
            f"| {count} | {rate.text(0)} | {_times(rounds, first).text()} | {cores:.1f} | {routers:.2f}, {redis:.2f} |"
        )
    return "\n".join(lines)


def _times(rounds: Sequence[Round], first: Sequence[Round]) -> Figure:
    return Figure.of([one.requests_per_s / other.requests_per_s for one, other in zip(rounds, first, strict=True)])


def _budgets(found: Mapping[str, Mapping[int, Sequence[Round]]], cores: int) -> list[Budget]:
    """Nothing is said where the machine was full: then more routers cannot bring more."""
    judged: list[Budget] = []
    for case, by in found.items():
        if 1 in by and 2 in by:
            times = _times(by[2], by[1])
            free = statistics.median(one.cores for one in by[2]) < cores - 1
            measured = f"{times.text()} x" + ("" if free else f", all {cores} cores busy")
            judged.append(
                Budget(
                    f"two router processes, {case}",
                    f">= {_WANTED} x one",
                    measured,
                    times.median >= _WANTED if free else None,
                )
            )
    return judged


if __name__ == "__main__":
    sys.exit(main())
