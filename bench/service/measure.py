"""One round: a client process sends a case's work to one variant, and the CPU time of everybody is read around it."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

from bench.service.load import Seen, Work
from bench.service.variants import Variant

_LIMIT_S = 120


@dataclass(frozen=True, slots=True)
class Round:
    """What the client saw, and the CPU seconds of each role."""

    seen: Seen
    cpu_s: dict[str, float]

    @property
    def requests(self) -> int:
        return len(self.seen.whole_s)


class RoundFailed(Exception):
    """The client did not get what it asked for; the message says what came instead."""


def measure(variant: Variant, work: Work) -> Round:
    """Raises RoundFailed when a request failed: its figures would flatter."""
    before = variant.cpu_s()
    done = subprocess.run(
        [sys.executable, "-m", "bench.service.load", json.dumps(asdict(work))],
        stdout=subprocess.PIPE,
        check=True,
        timeout=_LIMIT_S,
    )
    cpu_s = {role: cpu - before[role] for role, cpu in variant.cpu_s().items()}
    seen = Seen(**json.loads(done.stdout))
    if seen.wrong:
        raise RoundFailed(f"{variant.name}: {work.tag}: {seen.wrong}")
    if not work.cancel and seen.tokens != work.requests * work.tokens:
        raise RoundFailed(f"{variant.name}: {work.tag}: {seen.tokens} tokens for {work.requests} x {work.tokens}")
    return Round(seen, cpu_s)
