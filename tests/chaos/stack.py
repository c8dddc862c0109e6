"""The local stack as the chaos tests use it: several routers and workers, replacements, proxies before the server."""

import asyncio
import json
import os
import random
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import yaml

import bitlane
from broker import Broker, BrokerOptions
from deploy.local.processes import Process
from deploy.local.server import free_port
from deploy.local.stack import Stack
from tests.chaos.faults import FaultProxy
from tests.chaos.history import History
from tests.chaos.load import KEYS
from tests.chaos.story import Story

FP4, FP8 = "smollm2/fp4", "smollm2/fp8"
# An ended request stays readable until it has been checked.
_WINDOW = "600"


class ChaosStack(Stack):
    """A stack to be broken. `with ChaosStack(...) as stack:` has it started.

    Args:
        engine: options of the scripted engine.
        routers: how many; each keeps its port when it is replaced.
        workers: how many in each pool.
        proxied: routers and workers reach the server through `stack.router_line` and `stack.worker_line`.
        settings: of the server.
        telemetry: OTEL_* for all processes.
    """

    def __init__(
        self,
        *,
        engine: Mapping[str, object] | None = None,
        routers: int = 1,
        workers: int = 1,
        lease_ms: int = 600,
        durable: bool = False,
        proxied: bool = False,
        settings: Mapping[str, str] | None = None,
        worker_env: Mapping[str, str] | None = None,
        router_env: Mapping[str, str] | None = None,
        telemetry: Mapping[str, str] | None = None,
        config: Path = Path("config/local.yaml"),
    ) -> None:
        self._exit = ExitStack()
        self._router_env = {"BITLANE_ROUTER_RESUME_WINDOW_S": _WINDOW, **(router_env or {})}
        worker_env = {"BITLANE_WORKER_RESUME_WINDOW_S": _WINDOW, **(worker_env or {})}
        self.router_line, self.worker_line = FaultProxy(), FaultProxy()
        if proxied:
            for line in (self.router_line, self.worker_line):
                self._exit.enter_context(line)
            self._router_env["BITLANE_ROUTER_BROKER_URL"] = self.router_line.url
            worker_env["BITLANE_WORKER_BROKER_URL"] = self.worker_line.url
        super().__init__(
            engine="scripted",
            engine_options=json.dumps(engine or {}),
            lease_ms=lease_ms,
            durable=durable,
            worker_env=worker_env,
            telemetry=telemetry,
            config=config,
        )
        self.router_line.upstream = self.worker_line.upstream = self.server.socket
        self.server.settings |= settings or {}
        self._counts = routers, workers
        self._ports: list[int] = []
        self.story = Story(self.server.socket, self.folder)
        self.history = History(self.story)

    def __enter__(self) -> Self:
        try:
            self.start()
            routers, workers = self._counts
            self._ports = [int(self.target.rpartition(":")[2])]
            for _ in range(routers - 1):
                self._ports.append(free_port())
                self.add_router(self._ports[-1])
            for _ in range(workers - 1):
                for pool in (FP4, FP8):
                    self.add_worker(pool)
            for router in self.routers:
                self.target_of(router)
            for pool in (FP4, FP8):
                for worker in self.workers[pool]:
                    worker.wait_for("worker.ready", 30.0)
            self._exit.enter_context(self.story)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for line in (self.router_line, self.worker_line):
            line.heal()
        for process in (*self.routers, *(w for workers in self.workers.values() for w in workers)):
            if process.returncode is None:
                _resume(process)
        self._exit.close()
        super().stop()

    @property
    def targets(self) -> list[str]:
        """Of all routers, those that are being replaced too."""
        return [f"localhost:{port}" for port in self._ports]

    def client(self, tenant: str = "acme", **options: Any) -> bitlane.AsyncClient:
        """A client of the SDK that knows all routers, beginning with a random one."""
        arguments: dict[str, Any] = {
            "target": random.sample(self.targets, len(self.targets)),
            "timeout": 120,
            **options,
        }
        return bitlane.AsyncClient(api_key=KEYS[tenant], **arguments)

    def broker(self) -> Broker:
        """The test's own way to the server, past all faults."""
        return Broker(BrokerOptions(url=self.server.url, timeout_s=10))

    def add_router(self, port: int = 0, env: Mapping[str, str] | None = None) -> Process:
        return super().add_router(port, {**self._router_env, **(env or {})})

    def replace_router(self, router: Process) -> Process:
        """Starts another router on the port of one that has ended."""
        port = int(str(router.wait_for("router.ready", 0.0)["port"]))
        # The old one stays in the list, where its number keeps names unique: two routers of one name share an inbox.
        return self.add_router(port)

    def live_routers(self) -> list[Process]:
        """Those that run, ready or not."""
        return [router for router in self.routers if router.returncode is None]

    def live_workers(self, pool: str | None = None) -> list[Process]:
        """Those that run, ready or not."""
        pools = [pool] if pool else list(self.workers)
        return [worker for each in pools for worker in self.workers[each] if worker.returncode is None]

    def add_odd_worker(self, pool: str, **engine: object) -> Process:
        """A worker with engine options of its own: slow, or failing."""
        name = f"{pool.replace('/', '-')}-odd-{len(self.workers[pool]) + 1}"
        arguments = ["--pool", pool, "--name", name, "--lease-ms", str(self._lease_ms), "--engine", "scripted"]
        arguments += ["--engine-options", json.dumps(engine), "--log-format", "json"]
        env = {"BITLANE_WORKER_BROKER_URL": self.server.url, **self._worker_env}
        worker = Process(name, "workers", arguments, self.folder / f"{name}.log", env)
        self.workers[pool].append(worker)
        return worker

    @staticmethod
    async def ready(process: Process) -> None:
        """Waits until a worker or router that was added serves."""
        while process.next_event({"worker.ready", "router.ready"}, 0.0) is None:
            assert process.returncode is None, process.tail()
            await asyncio.sleep(0.02)

    def pool_of(self, worker: Process) -> str:
        return next(pool for pool, workers in self.workers.items() if worker in workers)


def _resume(process: Process) -> None:
    """One that is stopped would not hear SIGTERM."""
    os.kill(process.pid, signal.SIGCONT)


def roomy(folder: Path, context_tokens: int = 100_000) -> Path:
    """The local configuration with a longer context, for long replies."""
    config: dict[str, Any] = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
    config["models"][0]["context_tokens"] = context_tokens
    path = folder / "roomy.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
