"""What the broker's scripts cost the server: `python -m bench.broker [--json OUT]`. Microseconds of its CPU per call.

Four queues on one server: 10 and 1,000 tenants, each with 1,000 and 100,000 requests waiting. Their rounds are
interleaved, so that what else the machine does falls on all alike; the CPU is that of the server's main thread, from
/proc, over a batch of calls of one kind. In a round as many requests end as enter, so that the queues stay as they are.
Nothing fails on a time. Wanted: submit and claim of the largest queue within twice the smallest one's.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.results import save
from bench.service.report import Figure
from broker import Broker, BrokerOptions
from broker.types import Account, Claim, Limits, Outcome, Price, Priority, RequestRef, Submission, Usage
from deploy.local.server import LocalServer

SETTINGS = {
    f"{tenants:,} tenants, {waiting:,} waiting": (tenants, waiting)
    for tenants in (10, 1_000)
    for waiting in (1_000, 100_000)
}
CALLS = ("submit", "claim", "append", "finish")
_ROUNDS = 20
_WARM_UP = 2  # of them, not counted
_BATCH = 400  # calls of one kind in a round
_LIMITS = Limits(10**6, 10**9, 10**6, 10**6, 10**15, 10**15)
# A tenant, one of its keys, and both for one model: the most that a router sends.
_ACCOUNTS = tuple(Account(key, model, _LIMITS) for key in ("", "ci") for model in ("", "m"))
_PRICE = Price(prompt=100, cached_prompt=50, output=400)
_JOB = b"x" * 2_000
_CHUNK = b"x" * 60


@dataclass
class Queue:
    """One pool with its tenants, and the CPU of each kind of call in each round."""

    broker: Broker
    pool: str
    tenants: int
    waiting: int
    submitted: int = 0
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: list[float]() for name in CALLS})

    async def fill(self) -> None:
        while self.submitted < self.waiting:
            await self._submit(min(1_000, self.waiting - self.submitted))

    async def round(self, server: LocalServer) -> None:
        """As many requests enter as leave."""
        await self._timed("submit", server, lambda: self._submit(_BATCH))
        claims = await self._timed("claim", server, self._claim)
        await self._timed("append", server, lambda: self._each(claims, self._append))
        await self._timed("finish", server, lambda: self._each(claims, self._finish))

    async def _timed(self, name: str, server: LocalServer, calls: Callable[[], Awaitable[list[Claim]]]) -> list[Claim]:
        before = cpu_seconds(server.pid)
        result = await calls()
        self.seconds[name].append(cpu_seconds(server.pid) - before)
        return result

    async def _submit(self, count: int) -> list[Claim]:
        numbers = range(self.submitted, self.submitted + count)
        self.submitted += count
        await asyncio.gather(*(self.broker.submit(self._submission(number)) for number in numbers))
        return []

    async def _claim(self) -> list[Claim]:
        """One a call, as with one free slot."""
        answers = await asyncio.gather(*(self.broker.claim(self.pool, "w1", b"profile", 1) for _ in range(_BATCH)))
        return [claim for answer in answers for claim in answer]

    async def _each(self, claims: Sequence[Claim], call: Callable[[Claim], Awaitable[object]]) -> list[Claim]:
        await asyncio.gather(*map(call, claims))
        return []

    async def _append(self, claim: Claim) -> None:
        await self.broker.append(claim.lease, 0, _CHUNK, 4, 50, 0)

    async def _finish(self, claim: Claim) -> None:
        usage = Usage(prompt_tokens=50, cached_prompt_tokens=10, output_tokens=20)
        await self.broker.finish(claim.lease, 1, _CHUNK, 4, Outcome.STOP, "", usage)

    def _submission(self, number: int) -> Submission:
        return Submission(
            ref=RequestRef(f"tenant-{number % self.tenants}", f"{self.tenants}-{self.waiting}-{number}"),
            pool=self.pool,
            digest="digest",
            job=_JOB,
            decision=b"decision",
            router="router-1",
            timeout_ms=10**9,
            prompt_tokens=50,
            output_tokens=200,
            priority=Priority(number % 3 + 1),
            weight=1.0,
            migratable=True,
            key="ci",
            task="chat",
            price=_PRICE,
            fp8_price=_PRICE,
            accounts=_ACCOUNTS,
            pool_max_waiting=10**6,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.broker", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there too")
    out: Path | None = parser.parse_args().json
    figures = asyncio.run(_measure())
    lines = [
        "| server CPU, us a call | " + " | ".join(SETTINGS) + " | last to first |",
        "| --- |" + " --- |" * (len(SETTINGS) + 1),
    ]
    for name in CALLS:
        cells = [Figure.of(figures[setting][name]) for setting in SETTINGS]
        texts = [cell.text(1) for cell in cells]
        lines.append(f"| {name} | " + " | ".join(texts) + f" | {cells[-1].median / cells[0].median:.2f} x |")
    markdown = "\n".join(lines)
    print(markdown)
    save(out, {"rounds": _ROUNDS, "settings": figures, "markdown": markdown})


async def _measure() -> dict[str, dict[str, list[float]]]:
    """By setting and call, a figure a round, in microseconds a call. The first rounds warm up."""
    with LocalServer() as server:
        # What has ended leaves soon, so that the small queue's server holds as much as the large one's.
        options = BrokerOptions(url=server.url, timeout_s=30, lease_ms=600_000, resume_window_ms=1_000)
        async with Broker(options) as broker:
            queues = {
                name: Queue(broker, f"m/pool{number}", tenants, waiting)
                for number, (name, (tenants, waiting)) in enumerate(SETTINGS.items())
            }
            for queue in queues.values():
                await queue.fill()
            for _ in range(_ROUNDS):
                for queue in queues.values():
                    await queue.round(server)
    return {
        name: {call: [1e6 * seconds / _BATCH for seconds in queue.seconds[call][_WARM_UP:]] for call in CALLS}
        for name, queue in queues.items()
    }


def cpu_seconds(pid: int) -> float:
    """Of a process's main thread so far, user and system, by the scheduler's count in nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


if __name__ == "__main__":
    main()
