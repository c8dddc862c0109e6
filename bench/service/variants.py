"""What is measured, started and stopped: nothing between client and model, a proxy that does nothing, and bitlane."""

import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import yaml

from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.contract.telemetry.receiver import receiver

DIRECT, FLOOR, BITLANE = "direct", "floor", "bitlane"
_SLOTS = 1024
_READY_S = 30.0
_SETTLED_S = 2.0  # all of several routers are ready so long after the first


@dataclass(frozen=True, slots=True)
class Variant:
    """One way from the client to the tokens. `roles` are processes by what they do; `proxy` is what is in between."""

    name: str
    target: str
    roles: Mapping[str, tuple[int, ...]]

    def cpu_s(self) -> dict[str, float]:
        """CPU time of each role until now, in seconds, of all threads."""
        return {role: sum(map(_cpu_s, pids)) for role, pids in self.roles.items()}

    def memory_mib(self, role: str) -> float:
        """Resident memory."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) for pid in self.roles[role])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def variants(token_ms: float, features: bool = True, processes: int = 1) -> Generator[list[Variant]]:
    """All three, with so many milliseconds between a stream's tokens.

    Args:
        features: bitlane with quotas, and with metrics and 1 % of traces going to a receiver. The policy, its
            classifier and API keys are always on.
        processes: more than one: bitlane once more, with so many routers behind one port.
    """
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
        upstream = started.enter_context(_process("upstream", ["--token-ms", str(token_ms)], folder))
        address = f"localhost:{upstream.wait_for('bench.ready', _READY_S)['port']}"
        floor = started.enter_context(_process("floor", ["--upstream", address], folder))
        floor_address = f"localhost:{floor.wait_for('bench.ready', _READY_S)['port']}"
        telemetry: dict[str, str] = {}
        if features:
            telemetry["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{started.enter_context(_receiving())}"
            telemetry["OTEL_METRICS_EXPORTER"] = "otlp,prometheus"
        stack = started.enter_context(
            Stack(
                engine="scripted",
                engine_options=f'{{"token_ms": {token_ms}, "slots": {_SLOTS}}}',
                config=_config(folder, features),
                telemetry=telemetry,
            )
        )
        stack.start()
        workers = tuple(w.pid for pool in stack.workers.values() for w in pool)
        found = [
            Variant(DIRECT, address, {"model": (upstream.pid,)}),
            Variant(FLOOR, floor_address, {"proxy": (floor.pid,), "model": (upstream.pid,)}),
            Variant(
                BITLANE,
                stack.target,
                {"proxy": (stack.routers[0].pid,), "redis": (stack.server.pid,), "model": workers},
            ),
        ]
        if processes > 1:
            several = stack.add_router(env={"BITLANE_ROUTER_PROCESSES": str(processes)})
            target = stack.target_of(several)
            time.sleep(_SETTLED_S)
            pids = tuple(map(int, Path(f"/proc/{several.pid}/task/{several.pid}/children").read_text("ascii").split()))
            roles = {"proxy": pids, "redis": (stack.server.pid,), "model": workers}
            found.append(Variant(f"{BITLANE}, {processes} processes", target, roles))
        yield found


@contextmanager
def _process(name: str, arguments: list[str], folder: Path) -> Generator[Process]:
    process = Process(name, f"bench.service.{name}", arguments, folder / f"{name}.log", {})
    try:
        yield process
    finally:
        process.kill()


@contextmanager
def _receiving() -> Generator[int]:
    """The port of an OTLP receiver in a process of its own."""
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    stop = multiprocessing.Event()
    process = multiprocessing.Process(target=_receive, args=(ports, stop), daemon=True)
    process.start()
    try:
        yield ports.get(timeout=_READY_S)
    finally:
        stop.set()
        process.join()


def _receive(ports: "multiprocessing.Queue[int]", stop: Event) -> None:
    with receiver() as servicer:
        ports.put(servicer.port)
        stop.wait()


def _config(folder: Path, features: bool) -> Path:
    config = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
    # Every kind of bound is checked and settled, and none is reached.
    most = {
        "requests_per_minute": 10**8,
        "tokens_per_minute": 10**10,
        "concurrent_requests": 10**6,
        "queued_requests": 10**5,
        "day_budget": 10**6,
        "month_budget": 10**6,
    }
    key = {"name": "bench", "sha256": hashlib.sha256(b"bl_bench").hexdigest()}
    config["tenants"] = [
        {"id": "bench", "keys": [key], "quota": {"limits": most if features else {"queued_requests": -1}}}
    ]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _cpu_s(pid: int) -> float:
    """Linux makes a clock of every process's CPU time, in nanoseconds, all threads together."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
