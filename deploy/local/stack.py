"""The local stack: an embedded server, a router, an FP4 and an FP8 worker, as child processes on one machine."""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.processes import Process
from deploy.local.server import LocalServer
from deploy.local.tenants import make_tenants

# One thread for each worker's matrix products: two workers share a small machine, and more threads fight.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_LOAD_S = 180.0
_STOP_S = 15.0
POOLS = ("smollm2/fp4", "smollm2/fp8")


class Stack:
    """Starts and stops the whole; `with Stack() as stack:` leaves nothing running, however it is left.

    It makes its tenants (deploy.local.tenants) with the operator's key of config/local.yaml, which any other
    configuration has to have as well.

    Args:
        port: of the router on localhost; 0 for a free one.
        engine: of the workers, with its options.
        lease_ms: after so long a dead worker's requests go to another one.
        worker_env: further settings of the workers, BITLANE_WORKER_*.
        durable: the server keeps an append-only file, and so survives a crash.
        say: told what is being done, line by line.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        engine: str = "reference",
        engine_options: str = "{}",
        lease_ms: int = 5000,
        durable: bool = False,
        worker_env: Mapping[str, str] | None = None,
        config: Path = Path("config/local.yaml"),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._wanted_port = port
        self._engine = ["--engine", engine, "--engine-options", engine_options]
        self._lease_ms = lease_ms
        self._worker_env = worker_env or {}
        self._config = config
        self._say = say
        self.folder = Path(tempfile.mkdtemp(prefix="bitlane-local-"))
        self.server = LocalServer(folder=self.folder / "server", durable=durable)
        self.routers: list[Process] = []
        self.workers: dict[str, list[Process]] = {pool: [] for pool in POOLS}
        self.target = ""  # where a client connects to, once it has started

    def start(self) -> Self:
        """Returns when both pools and the router can serve.

        Raises:
            ProcessFailed: one of them did not come up.
        """
        self._say("starting the embedded server")
        self.server.start()
        for pool in POOLS:
            self.add_worker(pool)
        router = self.add_router(self._wanted_port)
        self.target = self.target_of(router)
        self._say(f"router listens on {self.target}")
        make_tenants(self.target)
        for pool in POOLS:
            self.wait_for_worker(pool)
        # The router looks at the registry a few times a second.
        time.sleep(0.5)
        return self

    def add_worker(self, pool: str) -> Process:
        """Starts one more worker of a pool; it loads in the background."""
        number = len(self.workers[pool]) + 1
        name = f"{pool.replace('/', '-')}-{number}"
        arguments = ["--pool", pool, "--name", name, "--lease-ms", str(self._lease_ms), *self._engine]
        worker = self._spawn(
            name, "workers", arguments, {"BITLANE_WORKER_BROKER_URL": self.server.url, **self._worker_env}
        )
        self.workers[pool].append(worker)
        return worker

    def wait_for_worker(self, pool: str) -> None:
        """Waits for the newest worker of a pool, and says what it is doing meanwhile."""
        worker = self.workers[pool][-1]
        began = time.monotonic()
        said = ""
        while worker.next_event({"worker.ready"}, 0.5) is None:
            if worker.returncode is not None or time.monotonic() - began > _LOAD_S:
                worker.wait_for("worker.ready", 0.0)
            latest = worker.latest()
            if latest and latest != said:
                self._say(f"worker {worker.name}: {latest}")
                said = latest
        self._say(f"worker {worker.name} is ready")

    def add_router(self, port: int = 0, env: Mapping[str, str] | None = None) -> Process:
        """Starts one more router."""
        name = f"router-{len(self.routers) + 1}"
        arguments = ["--config", str(self._config), "--listen", f"localhost:{port}", "--name", name]
        router = self._spawn(name, "router", arguments, {"BITLANE_ROUTER_BROKER_URL": self.server.url, **(env or {})})
        self.routers.append(router)
        return router

    @staticmethod
    def target_of(router: Process) -> str:
        """Waits until a router listens; where a client connects to it."""
        return f"localhost:{router.wait_for('router.ready', 30.0)['port']}"

    def dead(self) -> Process | None:
        """A process that ended though nobody stopped it."""
        return next((p for p in self._processes() if p.returncode is not None), None)

    def stop(self) -> None:
        """Stops the routers first, then the workers, then the server. Safe to call twice."""
        for group in (self.routers, [w for workers in self.workers.values() for w in workers]):
            for process in group:
                process.terminate()
            for process in group:
                process.wait(_STOP_S)
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _processes(self) -> list[Process]:
        return [*self.routers, *(w for workers in self.workers.values() for w in workers)]

    def _spawn(self, name: str, module: str, arguments: list[str], env: Mapping[str, str]) -> Process:
        log = self.folder / f"{name}.log"
        return Process(name, module, [*arguments, "--log-format", "json"], log, {**_ONE_THREAD, **env})
