"""What `bitlane top` shows at one moment, read from the API."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bitlane.admin_types import QueueStatus, UsageRow, WorkerState, WorkerStatus
from bitlane.errors import PermissionDenied
from bitlane.request_types import RequestStatus
from bitlane.sync import Client
from bitlane.types import Precision
from bitlane.usage import usage_total

_RECENT = 1000
_LISTED = 200
"""The server lists at least so many, where there were as many."""
_WINDOW_S = 10.0
_USAGE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class PoolFrame:
    """One pool."""

    name: str
    precision: Precision
    workers: int
    draining: int
    """Workers that claim nothing, those in quarantine among them."""
    ejected: int
    slots: int
    running: int
    waiting: int
    queues: Sequence[QueueStatus]
    """What waits, most urgent first; empty where only the sum is told."""
    tokens_per_second: float
    """Output of the last 10 seconds, of what is seen here."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What ended in a time."""

    total: UsageRow
    fp4_share: float | None
    """Of the requests, 0 to 1; None: none ended."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything at one moment."""

    time: datetime
    operator: bool
    """Of all tenants; else of the key's own, and pools without their queues."""
    pools: Sequence[PoolFrame]
    workers: Sequence[WorkerStatus]
    """Empty for a tenant's key."""
    recent: Sequence[RequestStatus]
    """Newest first."""
    partial: bool
    """More requests came in the last seconds than are listed: speeds are at least what is told."""
    hour: Spending
    """Since the full hour."""
    today: Spending
    """Since midnight of UTC."""

    @property
    def tokens_per_second(self) -> float:
        return sum(pool.tokens_per_second for pool in self.pools)


class Watch:
    """Reads frames, with few calls."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._operator: bool | None = None
        self._usage: tuple[Spending, Spending] | None = None
        self._usage_at = 0.0

    def read(self) -> Frame:
        """Raises BitlaneError."""
        recent = self._client.admin.requests.recent(limit=_RECENT)
        pools, workers = self._pools(recent)
        if self._usage is None or time.monotonic() - self._usage_at >= _USAGE_EVERY_S:
            self._usage, self._usage_at = self._spending(), time.monotonic()
        window = timedelta(seconds=_WINDOW_S)
        partial = len(recent) >= _LISTED and _before(recent[-1].submitted_at, recent[-1].read_at) < window
        return Frame(
            time=datetime.now(UTC),
            operator=bool(self._operator),
            pools=pools,
            workers=workers,
            recent=recent,
            partial=partial,
            hour=self._usage[0],
            today=self._usage[1],
        )

    def _pools(self, recent: Sequence[RequestStatus]) -> tuple[list[PoolFrame], list[WorkerStatus]]:
        if self._operator is not False:
            try:
                return self._all_pools(recent)
            except PermissionDenied:
                # Whose key it is, only the server knows.
                self._operator = False
        seen: dict[str, PoolFrame] = {}
        for model in self._client.list_models():
            for pool in model.pools:
                speed = speed_of(recent, pool.name)
                seen[pool.name] = PoolFrame(
                    pool.name, pool.precision, pool.workers, 0, 0, pool.slots, pool.running, pool.waiting, (), speed
                )
        return list(seen.values()), []

    def _all_pools(self, recent: Sequence[RequestStatus]) -> tuple[list[PoolFrame], list[WorkerStatus]]:
        listed = self._client.admin.pools()
        workers = list(self._client.admin.workers.list())
        self._operator = True
        ejected = [worker.pool for worker in workers if worker.state is WorkerState.EJECTED]
        idle = [w.pool for w in workers if w.state not in (WorkerState.SERVING, WorkerState.EJECTED)]
        return [
            PoolFrame(
                name=pool.name,
                precision=pool.precision,
                workers=pool.workers,
                draining=idle.count(pool.name),
                ejected=ejected.count(pool.name),
                slots=pool.slots,
                running=pool.running,
                waiting=pool.waiting,
                queues=pool.queues,
                tokens_per_second=speed_of(recent, pool.name),
            )
            for pool in listed
        ], workers

    def _spending(self) -> tuple[Spending, Spending]:
        now = datetime.now(UTC)
        hour = now.replace(minute=0, second=0, microsecond=0)
        usage = self._client.admin.usage
        return (
            _spent(usage(start=hour, interval="hour", group_by=["precision"])),
            _spent(usage(start=hour.replace(hour=0), interval="day", group_by=["precision"])),
        )


def speed_of(recent: Sequence[RequestStatus], pool: str) -> float:
    """Output tokens per second of the last 10 seconds, as if each request's had come evenly."""
    tokens = 0.0
    for request in recent:
        first, end = request.first_token_at, request.ended_at or request.read_at
        if request.decision.pool != pool or first is None or end is None or request.read_at is None:
            continue
        since = request.read_at - timedelta(seconds=_WINDOW_S)
        took, inside = _before(first, end).total_seconds(), _before(max(first, since), end).total_seconds()
        if end > since:
            tokens += request.usage.output_tokens * (inside / took if took > 0 else 1.0)
    return tokens / _WINDOW_S


def _before(start: datetime | None, end: datetime | None) -> timedelta:
    return max(timedelta(), end - start) if start and end else timedelta()


def _spent(rows: Sequence[UsageRow]) -> Spending:
    total = usage_total(rows)
    fp4 = sum(row.requests for row in rows if row.precision is Precision.FP4)
    return Spending(total, fp4 / total.requests if total.requests else None)
