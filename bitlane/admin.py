"""`client.admin`: tenants, API keys, quotas, usage, pools and workers, dead letters, the audit log; for asyncio.

A tenant's key sees and manages its own tenant, as far as its scopes go; an operator's key names the tenant. A change
acts on every server within a second.

Reads are retried as every call is. A change that cannot be sent twice to the same end, such as a key's rotation, is
sent again only where no server was reached.
"""

from collections.abc import Sequence
from datetime import datetime

from bitlane import admin_convert
from bitlane.admin_room import AsyncPages, Page, Room
from bitlane.admin_tenants import AsyncKeys, AsyncTenants
from bitlane.admin_types import (
    AuditEvent,
    DeadLetter,
    PoolStatus,
    QuotaState,
    UsageDimension,
    UsageDimensionName,
    UsageInterval,
    UsageIntervalName,
    UsageRow,
    WorkerStatus,
)
from bitlane.arguments import member
from bitlane.line import Line
from bitlane.v1 import admin_pb2 as pb

# A year told apart by everything takes the server a while.
_USAGE_TIMEOUT = 60.0


class AsyncAdmin(Room):
    """The calls of the admin API, in rooms where there are several of a kind. Lists ask for their pages themselves."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self.tenants = AsyncTenants(line)
        self.keys = AsyncKeys(line)
        self.workers = AsyncWorkers(line)
        self.dead_letters = AsyncDeadLetters(line)

    async def quota(self, tenant: str = "", *, key: str = "") -> list[QuotaState]:
        """How much of each limit is used now: of all models first, then of every model that has limits of its own.

        Args:
            tenant: Default: the key's own.
            key: A key's own limits. Default: the tenant's.
        """
        request = pb.GetQuotaStateRequest(tenant=tenant, key=key)
        reply = await self._call(lambda stub: stub.GetQuotaState, request)
        return [admin_convert.quota_state(state) for state in reply.states]

    async def usage(
        self,
        tenant: str = "",
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        interval: UsageInterval | UsageIntervalName | None = None,
        group_by: Sequence[UsageDimension | UsageDimensionName] = (),
    ) -> list[UsageRow]:
        """Tokens, cost and savings of what ended, in the order of the dimensions' values; what is zero is left out.

        Args:
            tenant: Default: the key's own, and all tenants with an operator's key.
            start: Inclusive; rounded down to an interval. Default: one day before `end`.
            end: Exclusive; rounded up to an interval. Default: now.
            interval: How fine; `start` to `end` is at most 1500 of them. Default: hour.
            group_by: What rows are told apart by. Default: all in one row.
        """
        dimensions = [member(UsageDimension, each, "group_by") for each in group_by]
        request = pb.GetUsageRequest(
            tenant=tenant,
            start_time=admin_convert.moment_to_wire(start, "start") if start else None,
            end_time=admin_convert.moment_to_wire(end, "end") if end else None,
            interval=admin_convert.interval_to_wire(interval) if interval else pb.USAGE_INTERVAL_UNSPECIFIED,
            group_by=[admin_convert.dimension_to_wire(each) for each in dimensions],
        )
        reply = await self._call(lambda stub: stub.GetUsage, request, _USAGE_TIMEOUT)
        return [admin_convert.usage_row(row, dimensions, reply.currency) for row in reply.rows]

    async def pools(self) -> list[PoolStatus]:
        """All pools, with what waits and runs there. Needs an operator's key."""
        reply = await self._call(lambda stub: stub.ListPools, pb.ListPoolsRequest())
        return [admin_convert.pool_status(pool) for pool in reply.pools]

    def audit(self, *, tenant: str = "") -> AsyncPages[AuditEvent]:
        """Who changed what, newest first. Default: the key's own tenant, and everything with an operator's key."""

        async def fetch(token: str) -> Page[AuditEvent]:
            request = pb.ListAuditEventsRequest(tenant=tenant, page_token=token)
            reply = await self._call(lambda stub: stub.ListAuditEvents, request)
            return [admin_convert.audit_event(event) for event in reply.events], reply.next_page_token

        return AsyncPages(fetch)


class AsyncWorkers(Room):
    """The live workers. Needs an operator's key.

    A worker obeys with its next heartbeat, within a second; what it was told outlives its restarts.
    """

    def list(self, pool: str = "") -> AsyncPages[WorkerStatus]:
        """By pool, then name. Default: of all pools."""

        async def fetch(_: str) -> Page[WorkerStatus]:
            reply = await self._call(lambda stub: stub.ListWorkers, pb.ListWorkersRequest(pool=pool))
            return [admin_convert.worker_status(worker) for worker in reply.workers], ""

        return AsyncPages(fetch)

    async def drain(self, pool: str, worker: str) -> None:
        """Has it claim nothing more; what runs goes on."""
        await self._set(pool, worker, pb.WORKER_STATE_DRAINING)

    async def undrain(self, pool: str, worker: str) -> None:
        """Has it serve again, after a drain or a quarantine."""
        await self._set(pool, worker, pb.WORKER_STATE_SERVING)

    async def quarantine(self, pool: str, worker: str) -> None:
        """Has it claim nothing more and hand back what runs: other workers continue it."""
        await self._set(pool, worker, pb.WORKER_STATE_QUARANTINED)

    async def _set(self, pool: str, worker: str, state: pb.WorkerState.ValueType) -> None:
        request = pb.SetWorkerStateRequest(pool=pool, worker=worker, state=state)
        await self._call(lambda stub: stub.SetWorkerState, request)


class AsyncDeadLetters(Room):
    """Requests that failed on every attempt. `tenant`: default: the key's own; operators' keys name it."""

    def list(self, *, tenant: str = "") -> AsyncPages[DeadLetter]:
        """Newest first, without their prompts. Without a tenant, an operator's key sees those of all tenants."""

        async def fetch(token: str) -> Page[DeadLetter]:
            request = pb.ListDeadLettersRequest(tenant=tenant, page_token=token)
            reply = await self._call(lambda stub: stub.ListDeadLetters, request)
            return [admin_convert.dead_letter(letter) for letter in reply.letters], reply.next_page_token

        return AsyncPages(fetch)

    async def replay(self, request_id: str, *, tenant: str = "") -> None:
        """Queues it again, with no deadline and its attempts counted anew. Raises NotFound."""
        request = pb.ReplayDeadLetterRequest(tenant=tenant, request_id=request_id)
        await self._call(lambda stub: stub.ReplayDeadLetter, request, repeatable=False)

    async def purge(self, request_id: str, *, tenant: str = "") -> None:
        """Forgets it and its prompt. Raises NotFound."""
        request = pb.PurgeDeadLetterRequest(tenant=tenant, request_id=request_id)
        await self._call(lambda stub: stub.PurgeDeadLetter, request, repeatable=False)
