"""A long run with churn: workers, routers and policies come and go under load, and nothing may grow.

`python -m tests.chaos.soak MINUTES` (`make soak`) prints a line every 15 s, and fails when memory, open files or keys
grow, or a token was wrong.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import bitlane
from broker import Broker
from tests.chaos import leftovers
from tests.chaos.history import token_faults
from tests.chaos.killers import Killer
from tests.chaos.load import Habit, ask, closed_loop
from tests.chaos.stack import FP4, FP8, ChaosStack, memory_mib, open_files
from tests.process.scripted import ACME_ADMIN

_USERS = 10
_SAMPLE_S = 1.0
# Replies are forgotten quickly, so that the number of keys can settle.
_WINDOW = {"RESUME_WINDOW_S": "2"}


@dataclass(frozen=True, slots=True)
class Sample:
    """What is measured again and again: of processes that live through the whole run."""

    at: float
    router_mib: float
    worker_mib: float
    server_mib: float
    router_files: int
    worker_files: int
    keys: int


@dataclass(slots=True)
class Report:
    """What a soak found."""

    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    samples: list[Sample] = field(default_factory=list[Sample])
    churn: Counter[str] = field(default_factory=Counter[str])

    def growth(self, name: str) -> tuple[float, float]:
        """Median of a figure in the second quarter and in the last one: the first quarter is for warming up."""
        values = [float(getattr(sample, name)) for sample in self.samples]
        quarter = max(1, len(values) // 4)
        return _median(values[quarter : quarter * 2] or values), _median(values[-quarter:])

    def grown(self) -> list[str]:
        """What is not flat."""
        found: list[str] = []
        for name, share, slack in (
            ("router_mib", 0.10, 8.0),
            ("worker_mib", 0.10, 8.0),
            ("server_mib", 0.25, 16.0),
            ("router_files", 0.25, 8.0),
            ("worker_files", 0.25, 8.0),
            ("keys", 0.5, 100.0),
        ):
            early, late = self.growth(name)
            if late > early * (1 + share) + slack:
                found.append(f"{name} grew from {early:.0f} to {late:.0f}")
        return found


async def soak(seconds: float, say: bool = False) -> Report:
    """Runs it. One router and one worker of each pool live through; the others come and go."""
    report = Report()
    env = {f"BITLANE_{who}_{name}": value for who in ("ROUTER", "WORKER") for name, value in _WINDOW.items()}
    env["BITLANE_WORKER_MAX_ATTEMPTS"] = "10"
    with ChaosStack(
        engine={"token_ms": 5}, routers=2, workers=2, lease_ms=2000, router_env=env, worker_env=env
    ) as stack:
        over = time.monotonic() + seconds
        stays = {FP4: stack.workers[FP4][0], FP8: stack.workers[FP8][0]}
        async with (
            stack.broker() as broker,
            stack.client("acme") as acme,
            stack.client("globex") as globex,
            bitlane.AsyncClient(stack.target, api_key=ACME_ADMIN) as admin,
        ):
            clients = (("acme", acme), ("globex", globex))

            async def turn(user: int, number: int) -> None:
                tenant, client = clients[user % 2]
                habit = (Habit(), Habit(), Habit(cancel_at=5), Habit(leave_at=3))[number % 4]
                record = await ask(stack.history, client, tenant, f"soak {user} {number}", 30, habit=habit, timeout=60)
                stack.history.records.remove(record)  # the test itself must not grow
                report.requests += 1
                report.errors.update(record.errors)
                report.wrong += [f"{kind}: {detail}" for kind, detail in token_faults(record)]
                if not (record.finishes or record.errors or record.left):
                    report.wrong.append("no end")

            async def churn() -> None:
                killer = Killer(stack)
                number = 0
                while time.monotonic() < over:
                    number += 1
                    for pool, stayer in stays.items():
                        other = next(worker for worker in stack.live_workers(pool) if worker is not stayer)
                        await stack.ready(stack.add_worker(pool))
                        (other.kill if number % 2 else other.terminate)()
                        stack.workers[pool] = stack.live_workers(pool)
                    if number % 4 == 0:
                        router = stack.live_routers()[-1]
                        router.kill()
                        await stack.ready(stack.replace_router(router))
                    long = 512 + number % 512
                    policy = f"allow_uncalibrated_fp4: true\nlong_context_tokens: {long}\n"
                    await admin.policies.put(policy, etag=(await admin.policies.get()).etag)
                    report.churn.update(workers=2, policies=1, routers=int(number % 4 == 0))
                    await asyncio.sleep(killer.random.uniform(1.0, 3.0))

            async def watch() -> None:
                told = time.monotonic()
                while time.monotonic() < over:
                    await asyncio.sleep(_SAMPLE_S)
                    report.samples.append(await _sample(stack, broker))
                    if say and time.monotonic() - told >= 15:
                        told = time.monotonic()
                        sys.stdout.write(f"{report.requests} requests, {report.samples[-1]}\n")

            await asyncio.gather(closed_loop(_USERS, lambda: time.monotonic() > over, turn), churn(), watch())
            report.wrong += await leftovers.idle(broker, 30.0)
    return report


async def _sample(stack: ChaosStack, broker: Broker) -> Sample:
    router, worker = stack.routers[0], stack.workers[FP8][0]
    size = await broker._shards[0].command("DBSIZE")  # pyright: ignore[reportPrivateUsage]
    return Sample(
        at=time.time(),
        router_mib=memory_mib(router.pid),
        worker_mib=memory_mib(worker.pid),
        server_mib=memory_mib(stack.server.pid),
        router_files=open_files(router.pid),
        worker_files=open_files(worker.pid),
        keys=int(size),  # type: ignore[arg-type]
    )


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> int:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    report = asyncio.run(soak(minutes * 60, say=True))
    faults = [*report.wrong[:20], *report.grown()]
    for name in ("router_mib", "worker_mib", "server_mib", "router_files", "worker_files", "keys"):
        early, late = report.growth(name)
        sys.stdout.write(f"{name}: {early:.0f} early, {late:.0f} late\n")
    sys.stdout.write(f"{report.requests} requests, churn {dict(report.churn)}, errors {dict(report.errors)}\n")
    sys.stdout.write("\n".join(faults) + "\n" if faults else "flat\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
