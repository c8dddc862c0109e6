"""Quotas as they stand, and usage over time."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from broker.client import Broker
from broker.types import Interval, Limits, UsageRow
from precision.profile import Precision
from precision.tasks import Task
from router.admin.convert import limits_message, timestamp
from router.admin.faults import unknown_key
from router.admin.reach import reach
from router.config import Config
from router.directory.directory import Directory
from router.directory.quota import NO_LIMITS, Quota
from router.directory.tenants import Tenant
from router.faults import Violation, invalid
from router.managed import managed_tenant
from router.rpc import Call

_MOST_INTERVALS = 1500
_MOST_BUCKETS = 50_000  # of all tenants together: each is read by itself
_MOST_ROWS = 10_000
_TENANTS_AT_ONCE = 20
_DAY_MS = 24 * 3_600_000
_LAST_MS = 253_402_300_799_000  # the end of the year 9999, as in Timestamp
_INTERVALS = {
    apb.USAGE_INTERVAL_UNSPECIFIED: (Interval.HOUR, 3_600_000),
    apb.USAGE_INTERVAL_MINUTE: (Interval.MINUTE, 60_000),
    apb.USAGE_INTERVAL_HOUR: (Interval.HOUR, 3_600_000),
    apb.USAGE_INTERVAL_DAY: (Interval.DAY, _DAY_MS),
}
# Field of the answer, and its value.
_DIMENSIONS: dict[int, tuple[str, Callable[[str, UsageRow], str | int]]] = {
    apb.USAGE_DIMENSION_TENANT: ("tenant", lambda tenant, _: tenant),
    apb.USAGE_DIMENSION_KEY: ("key", lambda _, row: row.key),
    apb.USAGE_DIMENSION_MODEL: ("model", lambda _, row: row.pool.partition("/")[0]),
    apb.USAGE_DIMENSION_POOL: ("pool", lambda _, row: row.pool),
    apb.USAGE_DIMENSION_PRECISION: ("precision", lambda _, row: _precision(row.pool)),
    apb.USAGE_DIMENSION_TASK: ("task", lambda _, row: _task(row.task)),
    apb.USAGE_DIMENSION_TIME: ("start_time", lambda _, row: row.start_ms),
}


@dataclass(slots=True)
class _Sum:
    """Amounts of several rows together."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    fp8_cost: int = 0

    def add(self, row: UsageRow) -> None:
        self.requests += row.requests
        self.failed += row.failed
        self.prompt_tokens += row.prompt_tokens
        self.cached_prompt_tokens += row.cached_prompt_tokens
        self.output_tokens += row.output_tokens
        self.cost += row.cost
        self.fp8_cost += row.fp8_cost


_NOTHING = _Sum()
_Sums = dict[tuple[str | int, ...], _Sum]


@dataclass(frozen=True, slots=True)
class _Span:
    """A time in whole intervals."""

    interval: Interval
    start_ms: int
    end_ms: int
    intervals: int


class UsageRoom:
    """The methods of `bitlane.v1.AdminService` that are about quotas and usage."""

    def __init__(self, config: Config, directory: Directory, broker: Broker) -> None:
        self._config = config
        self._directory = directory
        self._broker = broker

    async def get_quota_state(self, request: apb.GetQuotaStateRequest, call: Call) -> apb.GetQuotaStateResponse:
        tenant = managed_tenant(self._directory, call.caller, request.tenant)
        quota, limits = self._quota(tenant, request.key)
        models = [model for model in quota.model_limits if model in self._config.models_by_name]
        asked: list[tuple[str, Limits]] = [("", limits)]
        asked += [(model, quota.model_limits[model].applied(NO_LIMITS)) for model in sorted(models)]
        states = await asyncio.gather(*(self._state(tenant.id, request.key, *each) for each in asked))
        return apb.GetQuotaStateResponse(states=states)

    async def get_usage(self, request: apb.GetUsageRequest, call: Call) -> apb.GetUsageResponse:
        tenant = reach(self._directory, call.caller, request.tenant)
        # What deleted tenants used stays.
        tenants = sorted(self._directory.tenants.ever) if tenant is None else [tenant]
        span = _span(request)
        if len(tenants) * span.intervals > _MOST_BUCKETS:
            told = (
                f"is {span.intervals} intervals before end_time, for {len(tenants)} tenants: more than {_MOST_BUCKETS}"
            )
            raise invalid([Violation("start_time", f"{told}; name a tenant, or ask for less or for longer intervals")])
        dimensions = list(dict.fromkeys(request.group_by))
        if unknown := [dimension for dimension in dimensions if dimension not in _DIMENSIONS]:
            told = f"names {unknown[0]}; use {', '.join(apb.UsageDimension.keys()[1:])}"
            raise invalid([Violation("group_by", told)])
        sums: _Sums = {}
        for first in range(0, len(tenants), _TENANTS_AT_ONCE):
            some = tenants[first : first + _TENANTS_AT_ONCE]
            found = await asyncio.gather(
                *(self._broker.usage(tenant, span.interval, span.start_ms, span.end_ms) for tenant in some)
            )
            for tenant, rows in zip(some, found, strict=True):
                _add(sums, tenant, rows, dimensions)
            if len(sums) > _MOST_ROWS:
                told = f"gives more than {_MOST_ROWS} rows; name fewer dimensions, or ask for a shorter time"
                raise invalid([Violation("group_by", told)])
        rows = [_row(dimensions, values, sums[values]) for values in sorted(sums) if sums[values] != _NOTHING]
        return apb.GetUsageResponse(rows=rows, currency=self._config.currency)

    def _quota(self, tenant: Tenant, key_name: str) -> tuple[Quota, Limits]:
        """The quota of a tenant or of one of its keys, and its limits for all models together as they apply."""
        if not key_name:
            return tenant.quota, self._directory.limits(tenant)
        for key in self._directory.keys_of(tenant):
            if key.name == key_name:
                return key.quota, key.quota.limits.applied(NO_LIMITS)
        raise unknown_key(key_name)

    async def _state(self, tenant: str, key: str, model: str, limits: Limits) -> apb.QuotaState:
        state = await self._broker.account(tenant, key, model, limits)
        return apb.QuotaState(
            model=model,
            limits=limits_message(limits),
            requests_used=state.requests_used,
            tokens_used=state.tokens_used,
            concurrent_requests=state.waiting + state.running,
            queued_requests=state.waiting,
            reserved_tokens=state.reserved_tokens,
            reserved_nanos=state.reserved_cost,
            day_spent_nanos=state.day_spent,
            month_spent_nanos=state.month_spent,
        )


def _span(request: apb.GetUsageRequest) -> _Span:
    """Raises Fault INVALID_ARGUMENT."""
    known = _INTERVALS.get(request.interval)
    if known is None:
        raise invalid([Violation("interval", f"is {request.interval}; use minute, hour or day")])
    interval, length_ms = known
    times: dict[str, int] = {}
    for field in ("start_time", "end_time"):
        if request.HasField(field):
            time_ms = getattr(request, field).seconds * 1000 + getattr(request, field).nanos // 1_000_000
            if not 0 <= time_ms <= _LAST_MS:
                raise invalid([Violation(field, "is no time between 1970 and 9999")])
            times[field] = time_ms
    end_ms = times.get("end_time", round(time.time() * 1000))
    start_ms = times.get("start_time", max(0, end_ms - _DAY_MS))
    if start_ms >= end_ms:
        raise invalid([Violation("start_time", "is not before end_time")])
    start_ms = start_ms // length_ms * length_ms
    end_ms = -(-end_ms // length_ms) * length_ms
    intervals = (end_ms - start_ms) // length_ms
    if intervals > _MOST_INTERVALS:
        told = f"is more than {_MOST_INTERVALS} intervals before end_time; ask for less, or for longer intervals"
        raise invalid([Violation("start_time", told)])
    return _Span(interval, start_ms, end_ms, intervals)


def _add(sums: _Sums, tenant: str, rows: Iterable[UsageRow], dimensions: Sequence[int]) -> None:
    values_of = [_DIMENSIONS[dimension][1] for dimension in dimensions]
    for row in rows:
        sums.setdefault(tuple(value(tenant, row) for value in values_of), _Sum()).add(row)


def _row(dimensions: Sequence[int], values: tuple[str | int, ...], total: _Sum) -> apb.UsageRow:
    row = apb.UsageRow(
        requests=total.requests,
        failed_requests=total.failed,
        prompt_tokens=total.prompt_tokens,
        cached_prompt_tokens=total.cached_prompt_tokens,
        output_tokens=total.output_tokens,
        cost_nanos=total.cost,
        fp8_cost_nanos=total.fp8_cost,
    )
    for dimension, value in zip(dimensions, values, strict=True):
        field = _DIMENSIONS[dimension][0]
        if field == "start_time":
            row.start_time.CopyFrom(timestamp(int(value)))
        else:
            setattr(row, field, value)
    return row


def _precision(pool: str) -> pb.Precision.ValueType:
    name = pool.rpartition("/")[2].upper()
    return pb.Precision.ValueType(Precision[name]) if name in Precision.__members__ else pb.PRECISION_UNSPECIFIED


def _task(name: str) -> pb.Task.ValueType:
    return pb.Task.ValueType(Task[name.upper()]) if name.upper() in Task.__members__ else pb.TASK_UNSPECIFIED
