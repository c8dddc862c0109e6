"""The whole service around GPU engines: an embedded server, routers, and workers, each a process of its own."""

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import bitlane
from bitlane import AsyncClient
from deploy.local.processes import Process
from deploy.local.server import LocalServer
from deploy.local.tenants import OPERATOR, make_tenants
from workers.processes import below

KEY = "bl_local_acme"
MODEL = "measured"
_LOAD_S = 570.0


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool's precision, and the engine of its workers with its options."""

    precision: str  # fp4, fp8 or bf16
    engine: str
    options: Mapping[str, object]


class GpuStack:
    """`with GpuStack(pools) as stack:` leaves nothing running. `add_worker` starts further ones."""

    def __init__(
        self, pools: list[Pool], *, lease_ms: int = 3000, context_tokens: int = 4096, routers: Sequence[int] = (1,)
    ) -> None:
        """`routers`: for each port, so many router processes share it."""
        self.folder = Path(tempfile.mkdtemp(prefix="bitlane-gpu-"))
        self.pools = {pool.precision: pool for pool in pools}
        self._lease_ms = lease_ms
        self._context_tokens = context_tokens
        self._routers = routers
        self.targets: dict[int, str] = {}  # by the number of router processes
        self.server = LocalServer(folder=self.folder / "server")
        self.workers: dict[str, list[Process]] = {pool.precision: [] for pool in pools}
        self.routers: dict[int, Process] = {}

    def start(self) -> Self:
        """Returns when routers listen; workers load meanwhile, see `wait`."""
        self.server.start()
        config = self.folder / "router.json"  # JSON is YAML
        local = Path("config/local.yaml").read_text(encoding="utf-8")
        operators = local[local.index("operators:") :].split("\n\n")[0]
        pools = "\n".join(f"      - precision: {name.upper()}" for name in self.pools)
        config.write_text(
            f"models:\n  - name: {MODEL}\n    context_tokens: {self._context_tokens}\n    default_temperature: 0.0\n"
            f"    pools:\n{pools}\n    gates: {{}}\n{operators}\n",
            encoding="utf-8",
        )
        for count in self._routers:
            arguments = ["--config", str(config), "--listen", "localhost:0", "--processes", str(count)]
            name, env = f"router-{count}", {"BITLANE_ROUTER_BROKER_URL": self.server.url}
            self.routers[count] = self._spawn(name, "router", [*arguments, "--name", name], env)
            self.targets[count] = f"localhost:{self.routers[count].wait_for('router.ready', 60.0)['port']}"
        make_tenants(self.target)
        return self

    def add_worker(self, precision: str) -> Process:
        """Starts a worker; it loads in the background."""
        pool = self.pools[precision]
        name = f"{precision}-{len(self.workers[precision]) + 1}"
        arguments = ["--pool", f"{MODEL}/{precision}", "--name", name, "--lease-ms", str(self._lease_ms)]
        arguments += ["--engine", pool.engine, "--engine-options", json.dumps(pool.options)]
        worker = self._spawn(name, "workers", arguments, {"BITLANE_WORKER_BROKER_URL": self.server.url})
        self.workers[precision].append(worker)
        return worker

    def wait(self, worker: Process) -> float:
        """Waits until a worker serves; returns how many seconds that took. Raises ProcessFailed."""
        began = time.monotonic()
        worker.wait_for("worker.ready", _LOAD_S)
        time.sleep(0.5)  # the router looks at the registry a few times a second
        return time.monotonic() - began

    @property
    def target(self) -> str:
        """The port that the fewest routers share."""
        return self.targets[min(self.targets)]

    def client(self) -> AsyncClient:
        return bitlane.AsyncClient(self.target, api_key=KEY, timeout=300)

    def operator(self) -> AsyncClient:
        return bitlane.AsyncClient(self.target, api_key=OPERATOR, timeout=30)

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU that the parts have used: routers with their children, workers without their engines'."""
        supervisors = [router.pid for router in self.routers.values()]
        routers = supervisors + [pid for supervisor in supervisors for pid in below(supervisor)]
        workers = [worker.pid for workers in self.workers.values() for worker in workers]
        return {
            "router": sum(map(cpu_s, routers)),
            "worker": sum(map(cpu_s, workers)),
            "server": cpu_s(self.server.pid),
        }

    def stop(self) -> None:
        for process in self._processes():
            process.terminate()
        for process in self._processes():
            process.wait(30.0)
        self.server.stop()

    def logs(self) -> str:
        """The end of every log, for when something went wrong."""
        return "\n".join(f"--- {process.name}\n{process.tail()}" for process in self._processes())

    def _processes(self) -> list[Process]:
        workers = [worker for workers in self.workers.values() for worker in workers]
        return [*self.routers.values(), *workers]

    def _spawn(self, name: str, module: str, arguments: list[str], env: Mapping[str, str]) -> Process:
        log = self.folder / f"{name}.log"
        return Process(name, module, [*arguments, "--log-format", "json"], log, {**os.environ, **env})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.logs(), flush=True)
        self.stop()


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, those of its children left out; 0 when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def engine_process(pid: int) -> int:
    """The process below another in which the engine started last computes, by its title. Raises LookupError."""
    for child in sorted(below(pid), reverse=True):
        try:
            title = Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8", errors="replace")
            name = Path(f"/proc/{child}/comm").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if any(word in f"{title} {name}" for word in ("EngineCor", "scheduler")):
            return child
    raise LookupError(f"process {pid} has no engine below it")
