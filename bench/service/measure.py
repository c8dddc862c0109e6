"""One round: a client process sends a case's work to one variant, and the CPU time of everybody is read around it."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial

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


def measure(variant: Variant, work: Work, clients: int = 1) -> Round:
    """Raises RoundFailed when a request failed: its figures would flatter.

    Args:
        clients: processes that share the work and begin together.
    """
    work = replace(work, requests=work.requests // clients * clients)
    each = replace(work, requests=work.requests // clients, at_once=max(1, work.at_once // clients))
    before = variant.cpu_s()
    with ThreadPoolExecutor(clients) as threads:
        sent = [replace(each, tag=f"{work.tag} {number}") for number in range(clients)]
        seen = _together(list(threads.map(partial(_send, variant), sent)))
    cpu_s = {role: cpu - before[role] for role, cpu in variant.cpu_s().items()}
    if seen.wrong:
        raise RoundFailed(f"{variant.name}: {work.tag}: {seen.wrong}")
    if not (work.cancel or work.leave) and seen.tokens != work.requests * work.tokens:
        raise RoundFailed(f"{variant.name}: {work.tag}: {seen.tokens} tokens for {work.requests} x {work.tokens}")
    return Round(seen, cpu_s, variant.memory_mib())


def _send(variant: Variant, work: Work) -> Seen:
    """A client in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", variant.client, json.dumps(asdict(work))],
        stdout=subprocess.PIPE,
        check=True,
        timeout=_LIMIT_S,
    )
    return Seen(**json.loads(done.stdout))


def _together(seen: Sequence[Seen]) -> Seen:
    """What all clients saw, in the time that the slowest took."""
    wrong: Counter[str] = Counter()
    for one in seen:
        wrong.update(one.wrong)
    return Seen(
        first_s=[s for one in seen for s in one.first_s],
        whole_s=[s for one in seen for s in one.whole_s],
        tokens=sum(one.tokens for one in seen),
        messages=sum(one.messages for one in seen),
        wrong=dict(wrong),
        seconds=max(one.seconds for one in seen),
        cpu_s=sum(one.cpu_s for one in seen),
    )


def _interleaved(case: Case, started: Sequence[Variant], rounds: int) -> dict[str, list[Round]]:
    """So many rounds of each variant, which take turns in another order each time, after one that is not counted.

    Raises:
        RoundFailed
    """
    found: dict[str, list[Round]] = {variant.name: [] for variant in started}
    warm_up = replace(case, requests=max(case.at_once, case.requests // 10))
    for variant in started:
        measure(variant, warm_up.work(variant.target, "warm-up", variant.share), case.clients)
    for number in range(rounds):
        print(f"{case.name}: round {number + 1} of {rounds}", file=sys.stderr)
        for variant in (*started[number % len(started) :], *started[: number % len(started)]):
            work = case.work(variant.target, str(number), variant.share)
            found[variant.name].append(measure(variant, work, case.clients))
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
