"""Kills, freezes, stops and replaces processes at random moments. A printed seed makes a run repeatable."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable

from deploy.local.processes import Process
from deploy.local.server import ServerFailed
from tests.chaos.stack import ChaosStack

_STARTS = 5


class Killer:
    """Makes faults in a stack, one after the other, and notes each in the history.

    Args:
        spare_starting: workers that do not serve yet are left alone, so that under load each kill meets a stream.
    """

    def __init__(self, stack: ChaosStack, seed: int | None = None, *, spare_starting: bool = False) -> None:
        self.seed = random.randrange(1 << 32) if seed is None else seed
        self.random = random.Random(self.seed)
        self.done: Counter[str] = Counter()
        self._stack = stack
        self._spare_starting = spare_starting
        self._waking: set[asyncio.Task[None]] = set()
        self._replacing: asyncio.Task[None] | None = None
        stack.history.note(f"killer's seed {self.seed}")

    async def every(self, seconds: float, until: Callable[[], bool], *faults: str) -> None:
        """One of the faults, at random, about every so many seconds: names of this class's methods."""
        while not until():
            await asyncio.sleep(seconds * self.random.uniform(0.7, 1.3))
            if until():
                break
            await getattr(self, self.random.choice(faults))()
        await self.rest()

    async def rest(self) -> None:
        """Waits until what was frozen runs again, and what was taken away is replaced."""
        await asyncio.gather(*self._waking, self._replaced())

    async def kill_worker(self) -> None:
        """SIGKILL of a random worker, its replacement starting at once."""
        worker = self._pick_worker()
        self._note("kill_worker", worker)
        self._stack.add_worker(self._stack.pool_of(worker))
        worker.kill()

    async def stop_worker(self) -> None:
        """SIGTERM of a random worker."""
        worker = self._pick_worker()
        self._note("stop_worker", worker)
        self._stack.add_worker(self._stack.pool_of(worker))
        worker.terminate()

    async def freeze_worker(self, seconds: float | None = None) -> None:
        """SIGSTOP of a random worker, SIGCONT when its leases have run out: a zombie."""
        worker = self._pick_worker()
        self._note("freeze_worker", worker)
        os.kill(worker.pid, signal.SIGSTOP)

        async def wake() -> None:
            await asyncio.sleep(self.random.uniform(1.0, 2.5) if seconds is None else seconds)
            self._stack.history.note(f"wake {worker.name}")
            if worker.returncode is None:
                os.kill(worker.pid, signal.SIGCONT)

        task = asyncio.create_task(wake())
        self._waking.add(task)
        task.add_done_callback(self._waking.discard)

    async def kill_router(self) -> None:
        """SIGKILL of a random router; another one takes its port. One that is left serves meanwhile."""
        router = await self._pick_router()
        self._note("kill_router", router)
        router.kill()
        self._replace(router)

    async def stop_router(self) -> None:
        """SIGTERM of a random router, which drains, and another in its place."""
        router = await self._pick_router()
        self._note("stop_router", router)
        router.terminate()
        self._replace(router)

    async def crash_server(self) -> None:
        """SIGKILL of the server, which comes back with what its disk holds."""
        await self._replaced()  # a router does not start without it
        self.done["crash_server"] += 1
        self._stack.history.note("crash_server")
        self._stack.server.kill()
        await asyncio.sleep(self.random.uniform(0.0, 0.5))
        for attempt in range(_STARTS):
            try:
                self._stack.server.start()
                break
            except ServerFailed:  # a busy machine may be slow to load what the disk holds
                if attempt == _STARTS - 1:
                    raise
        self._stack.history.note("the server is back")

    async def hang_server(self) -> None:
        """SIGSTOP of the server for longer than a call may take."""
        await self._replaced()
        self.done["hang_server"] += 1
        self._stack.history.note("hang_server")
        self._stack.server.pause()
        await asyncio.sleep(1.2)
        self._stack.server.resume()

    async def reset_lines(self) -> None:
        """RST of every connection to the server."""
        self.done["reset_lines"] += 1
        self._stack.history.note("reset_lines")
        self._stack.router_line.reset()
        self._stack.worker_line.reset()

    def _pick_worker(self) -> Process:
        workers = self._stack.live_workers()
        if self._spare_starting:
            workers = [worker for worker in workers if worker.next_event({"worker.ready"}, 0.0)] or workers
        return self.random.choice(workers)

    async def _pick_router(self) -> Process:
        """One of those that serve, once the last one that was taken away has been replaced."""
        await self._replaced()
        return self.random.choice(self._stack.live_routers())

    async def _replaced(self) -> None:
        if self._replacing is not None:
            await self._replacing

    def _replace(self, router: Process) -> None:
        """Puts another router in the place of one that ends, while further faults are made."""

        async def replace() -> None:
            while router.returncode is None:
                await asyncio.sleep(0.02)
            await self._stack.ready(self._stack.replace_router(router))

        self._replacing = asyncio.create_task(replace())

    def _note(self, fault: str, process: Process) -> None:
        self.done[fault] += 1
        self._stack.history.note(f"{fault} {process.name}")
