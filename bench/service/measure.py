"""One round: a client process sends a case's work to one variant, and the CPU time of everybody is read around it."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace

from bench.service.cases import Case
from bench.service.load import Seen, Work
from bench.service.variants import Variant

_LIMIT_S = 120


@dataclass(frozen=True, slots=True)
class Round:
    """What the client saw, the CPU seconds of each role, and its memory afterwards."""

    seen: Seen
    cpu_s: dict[str, float]
    memory_mib: dict[str, float]

    @property
    def requests(self) -> int:
        return len(self.seen.whole_s)


class RoundFailed(Exception):
    """The client did not get what it asked for; the message says what came instead."""


def measure(variant: Variant, work: Work) -> Round:
    """Raises RoundFailed when a request failed: its figures would flatter."""
    before = variant.cpu_s()
    done = subprocess.run(
        [sys.executable, "-m", variant.client, json.dumps(asdict(work))],
        stdout=subprocess.PIPE,
        check=True,
        timeout=_LIMIT_S,
    )
    cpu_s = {role: cpu - before[role] for role, cpu in variant.cpu_s().items()}
    seen = Seen(**json.loads(done.stdout))
    if seen.wrong:
        raise RoundFailed(f"{variant.name}: {work.tag}: {seen.wrong}")
    if not (work.cancel or work.leave) and seen.tokens != work.requests * work.tokens:
        raise RoundFailed(f"{variant.name}: {work.tag}: {seen.tokens} tokens for {work.requests} x {work.tokens}")
    return Round(seen, cpu_s, variant.memory_mib())


def _interleaved(case: Case, started: Sequence[Variant], rounds: int) -> dict[str, list[Round]]:
    """So many rounds of each variant, which take turns in another order each time, after one that is not counted.

    Raises:
        RoundFailed
    """
    found: dict[str, list[Round]] = {variant.name: [] for variant in started}
    warm_up = replace(case, requests=max(case.at_once, case.requests // 10))
    for variant in started:
        measure(variant, warm_up.work(variant.target, "warm-up", variant.share))
    for number in range(rounds):
        print(f"{case.name}: round {number + 1} of {rounds}", file=sys.stderr)
        for variant in (*started[number % len(started) :], *started[: number % len(started)]):
            found[variant.name].append(measure(variant, case.work(variant.target, str(number), variant.share)))
    return found


Starting = Callable[[float], AbstractContextManager[list[Variant]]]


def run(cases: Sequence[Case], rounds: int, start: Starting) -> dict[str, dict[str, list[Round]]]:
    """Rounds by case and variant. Everything is started once for each gap between tokens that a case has.

    Raises:
        RoundFailed
    """
    results: dict[str, dict[str, list[Round]]] = {}
    for token_ms, alike in itertools.groupby(sorted(cases, key=lambda case: case.token_ms), lambda c: c.token_ms):
        with start(token_ms) as started:
            for case in alike:
                results[case.name] = _interleaved(case, started, rounds)
    return results
