"""Pools and workers: what they do, and what they are told to do."""

import re

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from broker.client import Broker
from broker.types import Directive, PoolState, Priority, WorkerInfo
from router.admin.faults import unknown_pool, unknown_worker
from router.config import Config
from router.faults import Violation, invalid
from router.rpc import Call

_WORKER = re.compile(r"[A-Za-z0-9._-]{1,256}")
_DIRECTIVES = {
    apb.WORKER_STATE_SERVING: Directive.SERVE,
    apb.WORKER_STATE_DRAINING: Directive.DRAIN,
    apb.WORKER_STATE_QUARANTINED: Directive.QUARANTINE,
}
_WANTED = {directive: state for state, directive in _DIRECTIVES.items()}


class WorkerRoom:
    """The methods of `bitlane.v1.AdminService` that are about pools and workers."""

    def __init__(self, config: Config, broker: Broker) -> None:
        self._broker = broker
        self._pools = {
            name: (model.name, precision) for model in config.models for precision, name in model.pool_names.items()
        }

    async def list_pools(self, request: apb.ListPoolsRequest, call: Call) -> apb.ListPoolsResponse:
        states = await self._broker.pools(list(self._pools))
        return apb.ListPoolsResponse(pools=[self._pool(state) for state in states])

    async def list_workers(self, request: apb.ListWorkersRequest, call: Call) -> apb.ListWorkersResponse:
        names = [self._known(request.pool)] if request.pool else sorted(self._pools)
        workers: list[apb.WorkerStatus] = []
        for state in await self._broker.pools(names):
            directives = await self._broker.directives(state.pool)
            live = sorted(state.workers, key=lambda worker: worker.worker)
            workers += [_status(worker, directives.get(worker.worker, Directive.SERVE)) for worker in live]
        return apb.ListWorkersResponse(workers=workers)

    async def set_worker_state(self, request: apb.SetWorkerStateRequest, call: Call) -> apb.SetWorkerStateResponse:
        pool, worker = self._known(request.pool), request.worker
        directive = _DIRECTIVES.get(request.state)
        if directive is None:
            raise invalid([Violation("state", f"is {request.state}; use serving, draining or quarantined")])
        old = await self._directive(pool, worker)
        await self._broker.audit.record(
            call.caller.name, "SetWorkerState", f"worker/{pool}/{worker}", "", old.value, directive.value
        )
        await self._broker.direct(pool, worker, directive)
        return apb.SetWorkerStateResponse()

    def _known(self, pool: str) -> str:
        if pool not in self._pools:
            raise unknown_pool(pool)
        return pool

    async def _directive(self, pool: str, worker: str) -> Directive:
        """What a worker was told. Raises Fault NOT_FOUND for one that is not alive and was never told anything."""
        if not _WORKER.fullmatch(worker):
            raise unknown_worker(worker)
        directives = await self._broker.directives(pool)
        if worker in directives:
            return directives[worker]
        (state,) = await self._broker.pools([pool])
        if all(live.worker != worker for live in state.workers):
            raise unknown_worker(worker)
        return Directive.SERVE

    def _pool(self, state: PoolState) -> apb.PoolStatus:
        model, precision = self._pools[state.pool]
        return apb.PoolStatus(
            name=state.pool,
            model=model,
            precision=pb.Precision.ValueType(precision),
            workers=len(state.workers),
            slots=sum(worker.slots for worker in state.workers),
            waiting=state.waiting,
            running=state.running,
            waiting_tokens=state.waiting_tokens,
            tokens_per_second=state.tokens_per_s,
            queues=[_queue(priority, state) for priority in Priority],
        )


def _queue(priority: Priority, state: PoolState) -> apb.QueueStatus:
    queue = apb.QueueStatus(priority=pb.Priority.ValueType(priority.value), waiting=state.waiting_by_priority[priority])
    if queue.waiting:
        queue.oldest_wait.FromMilliseconds(state.oldest_ms_by_priority[priority])
    return queue


def _status(worker: WorkerInfo, wanted: Directive) -> apb.WorkerStatus:
    state, reason = apb.WORKER_STATE_SERVING, ""
    if worker.quarantined:
        state = apb.WORKER_STATE_QUARANTINED
    elif worker.draining:
        state = apb.WORKER_STATE_DRAINING
    elif worker.ejected:
        state, reason = apb.WORKER_STATE_EJECTED, worker.ejected.value
    return apb.WorkerStatus(
        name=worker.worker,
        pool=worker.pool,
        state=state,
        state_reason=reason,
        wanted_state=_WANTED[wanted],
        slots=worker.slots,
        running=worker.running,
        context_tokens=worker.context_tokens,
        profile=pb.Profile.FromString(worker.profile),
    )
