"""What variants are put together from: modules that serve, a telemetry receiver, a configuration, more routers."""

import hashlib
import multiprocessing
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import yaml

from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.contract.telemetry.receiver import receiver
from workers.processes import below

READY_S = 30.0
TENANT, KEY = "bench", "bl_bench"
_SETTLED_S = 2.0  # all of several routers are ready so long after the first
# Every kind of bound is checked and settled, and none is reached.
_LIMITS = {
    "requests_per_minute": 10**8,
    "tokens_per_minute": 10**10,
    "concurrent_requests": 10**6,
    "queued_requests": 10**5,
    "day_budget": 10**6,
    "month_budget": 10**6,
}


@contextmanager
def module(name: str, arguments: Sequence[str], folder: Path) -> Generator[tuple[Process, int]]:
    """A module of the benchmarks that serves: its process and its port on localhost.

    Raises:
        ProcessFailed: it did not come up.
    """
    process = Process(name, name, arguments, folder / f"{name}.log", {})
    try:
        port = process.wait_for("bench.ready", READY_S)["port"]
        assert isinstance(port, int)
        yield process, port
    finally:
        process.kill()


@contextmanager
def telemetry(features: bool) -> Generator[Mapping[str, str]]:
    """OTEL_* of a stack with all features: metrics and 1 % of traces go to a receiver in a process of its own."""
    if not features:
        yield {}
        return
    with receiving() as port:
        yield {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
        }


@contextmanager
def receiving() -> Generator[int]:
    """The port of an OTLP receiver in a process of its own."""
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    stop = multiprocessing.Event()
    process = multiprocessing.Process(target=_receive, args=(ports, stop), daemon=True)
    process.start()
    try:
        yield ports.get(timeout=READY_S)
    finally:
        stop.set()
        process.join()


def _receive(ports: "multiprocessing.Queue[int]", stop: Event) -> None:
    with receiver() as servicer:
        ports.put(servicer.port)
        stop.wait()


def configuration(folder: Path, features: bool = True, tenants: Sequence[str] = (TENANT,)) -> Path:
    """The local configuration with these tenants, each with a key `bl_<tenant>`, and quotas if there are features."""
    config = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
    config["tenants"] = [
        {
            "id": tenant,
            "keys": [{"name": "bench", "sha256": hashlib.sha256(f"bl_{tenant}".encode()).hexdigest()}],
            "quota": {"limits": _LIMITS if features else {"queued_requests": -1}},
        }
        for tenant in tenants
    ]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def routers_of(stack: Stack, processes: int) -> tuple[str, tuple[int, ...]]:
    """Adds so many routers on one port to a stack; the port's address, and their process ids."""
    several = stack.add_router(env={"BITLANE_ROUTER_PROCESSES": str(processes)})
    target = stack.target_of(several)
    time.sleep(_SETTLED_S)
    return target, tuple(below(several.pid)) if processes > 1 else (several.pid,)
