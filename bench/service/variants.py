"""What is measured, started and stopped: nothing between client and model, a proxy that does nothing, and bitlane."""

import os
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.service import parts
from deploy.local.stack import Stack

DIRECT, FLOOR, BITLANE = "direct", "floor", "bitlane"
_SLOTS = 1024


@dataclass(frozen=True, slots=True)
class Variant:
    """One way from the client to the tokens.

    `roles` are processes by what they do; `proxy` is what is in between. `client` is the module that puts load on it,
    and `share` how much of a case's load: all of it would take one that is slow minutes.
    """

    name: str
    target: str
    roles: Mapping[str, tuple[int, ...]]
    client: str = "bench.service.load"
    share: float = 1.0

    def cpu_s(self) -> dict[str, float]:
        """CPU time of each role until now, in seconds, of all threads."""
        return {role: sum(map(process_cpu_s, pids)) for role, pids in self.roles.items()}

    def memory_mib(self) -> dict[str, float]:
        """Resident memory of each role."""
        return {role: sum(map(resident_bytes, pids)) / 2**20 for role, pids in self.roles.items()}


@contextmanager
def variants(token_ms: float, features: bool = True) -> Generator[list[Variant]]:
    """All three, with so many milliseconds between a stream's tokens.

    Args:
        features: bitlane with quotas, and with metrics and 1 % of traces going to a receiver. The policy, its
            classifier and API keys are always on.
    """
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
        upstream, port = started.enter_context(
            parts.module("bench.service.upstream", ["--token-ms", str(token_ms)], folder)
        )
        address = f"localhost:{port}"
        floor, floor_port = started.enter_context(parts.module("bench.service.floor", ["--upstream", address], folder))
        stack = started.enter_context(
            Stack(
                engine="scripted",
                engine_options=f'{{"token_ms": {token_ms}, "slots": {_SLOTS}}}',
                config=parts.configuration(folder, features),
                telemetry=started.enter_context(parts.telemetry(features)),
            )
        )
        yield [
            Variant(DIRECT, address, {"model": (upstream.pid,)}),
            Variant(FLOOR, f"localhost:{floor_port}", {"proxy": (floor.pid,), "model": (upstream.pid,)}),
            *of_stack(stack.start(), BITLANE),
        ]


def of_stack(stack: Stack, name: str, processes: int = 1) -> list[Variant]:
    """bitlane as a started stack serves it, and, with more than one, once more with so many routers behind one port."""
    others = {
        "redis": (stack.server.pid,),
        "model": tuple(worker.pid for pool in stack.workers.values() for worker in pool),
    }
    found = [Variant(name, stack.target, {"proxy": (stack.routers[0].pid,), **others})]
    if processes > 1:
        target, pids = parts.routers_of(stack, processes)
        found.append(Variant(f"{name}, {processes} processes", target, {"proxy": pids, **others}))
    return found


def resident_bytes(pid: int) -> int:
    """Of a process, now."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def process_cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, all threads together: Linux makes a clock of it, in nanoseconds."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
