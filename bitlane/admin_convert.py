"""Between the messages of the admin API and the SDK's own types. With convert.py the edge at which wire types end."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from bitlane import admin_types as t
from bitlane.arguments import assign, invalid, member
from bitlane.convert import (
    PRECISIONS,
    PRIORITIES,
    TASKS,
    enum_members,
    known,
    priority_to_wire,
    profile,
    seconds,
)
from bitlane.money import from_nanos, to_nanos
from bitlane.types import Priority
from bitlane.v1 import admin_pb2 as pb

SCOPES = enum_members(t.Scope, pb.Scope.items())
TENANT_STATES = enum_members(t.TenantState, pb.TenantState.items())
KEY_STATES = enum_members(t.ApiKeyState, pb.ApiKeyState.items())
WORKER_STATES = enum_members(t.WorkerState, pb.WorkerState.items())

_COUNTS = ("requests_per_minute", "tokens_per_minute", "concurrent_requests", "queued_requests")
_BUDGETS = ("day_budget", "month_budget")


def scopes_to_wire(scopes: Iterable[t.Scope | t.ScopeName], field: str) -> list[pb.Scope.ValueType]:
    return [pb.Scope.Value(f"SCOPE_{member(t.Scope, scope, field).name}") for scope in scopes]


def interval_to_wire(interval: t.UsageInterval | t.UsageIntervalName) -> pb.UsageInterval.ValueType:
    return pb.UsageInterval.Value(f"USAGE_INTERVAL_{member(t.UsageInterval, interval, 'interval').name}")


def dimension_to_wire(dimension: t.UsageDimension) -> pb.UsageDimension.ValueType:
    return pb.UsageDimension.Value(f"USAGE_DIMENSION_{dimension.name}")


def moment_to_wire(moment: datetime, field: str) -> Timestamp:
    """Raises InvalidRequest for a moment without a time zone: it could be hours off."""
    if moment.tzinfo is None:
        raise invalid(field, f"{moment.isoformat()} has no time zone, as datetime.now(UTC) has")
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def moment(message: Any, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    timestamp: Timestamp = getattr(message, field)
    return timestamp.ToDatetime(tzinfo=UTC)


def _limits_to_wire(limits: t.Limits, path: str) -> pb.Limits:
    message = pb.Limits()
    for name in _COUNTS:
        assign(message, name, getattr(limits, name), path)
    for name in _BUDGETS:
        budget: Decimal | int | None = getattr(limits, name)
        if budget is None:
            continue
        if not isinstance(budget, Decimal | int):  # pyright: ignore[reportUnnecessaryIsInstance]  # users without a type checker
            raise invalid(path + name, f"{budget!r} may not be exact: give a Decimal, such as Decimal('0.10')")
        assign(message, f"{name}_nanos", _nanos(budget, path + name), path)
    return message


def _nanos(budget: Decimal | int, field: str) -> int:
    try:
        nanos = to_nanos(budget)
    except ValueError as error:
        raise invalid(field, f"{budget} does not fit: {error}") from None
    if nanos >= 0:
        return nanos
    if budget == t.UNLIMITED:
        return t.UNLIMITED
    raise invalid(field, f"must be at least 0, or UNLIMITED ({t.UNLIMITED}); got {budget}")


def _limits(message: pb.Limits) -> t.Limits:
    def count(name: str) -> int | None:
        return getattr(message, name) if message.HasField(name) else None  # pyright: ignore[reportArgumentType]  # the names are its fields

    def budget(name: str) -> Decimal | int | None:
        nanos = count(f"{name}_nanos")
        return nanos if nanos is None or nanos == t.UNLIMITED else from_nanos(nanos)

    return t.Limits(
        requests_per_minute=count("requests_per_minute"),
        tokens_per_minute=count("tokens_per_minute"),
        concurrent_requests=count("concurrent_requests"),
        queued_requests=count("queued_requests"),
        day_budget=budget("day_budget"),
        month_budget=budget("month_budget"),
    )


def quota_to_wire(quota: t.Quota, path: str) -> pb.Quota:
    """`path` names the quota in errors, such as `tenant.quota`."""
    return pb.Quota(
        limits=_limits_to_wire(quota.limits, f"{path}.limits.") if quota.limits != t.Limits() else None,
        model_limits={
            model: _limits_to_wire(limits, f"{path}.model_limits[{model}].")
            for model, limits in quota.model_limits.items()
        },
    )


def quota(message: pb.Quota) -> t.Quota:
    # Sorted, because a map on the wire has no order.
    return t.Quota(
        limits=_limits(message.limits),
        model_limits={model: _limits(limits) for model, limits in sorted(message.model_limits.items())},
    )


def tenant_to_wire(tenant: t.Tenant) -> pb.Tenant:
    if isinstance(tenant.models, str):
        raise invalid("tenant.models", "must be a list of names")
    if tenant.weight == 0:
        # The wire has no other word for "not set", and so it would become the default.
        raise invalid("tenant.weight", "must be above 0 and at most 1000")
    message = pb.Tenant(
        models=tenant.models,
        state=pb.TenantState.Value(f"TENANT_STATE_{member(t.TenantState, tenant.state, 'tenant.state').name}"),
        priority_ceiling=priority_to_wire(member(Priority, tenant.priority_ceiling, "tenant.priority_ceiling")),
        quota=quota_to_wire(tenant.quota, "tenant.quota"),
    )
    for name in ("id", "display_name", "weight", "etag"):
        assign(message, name, getattr(tenant, name), "tenant.")
    return message


def tenant(message: pb.Tenant) -> t.Tenant:
    return t.Tenant(
        id=message.id,
        display_name=message.display_name,
        state=known(TENANT_STATES, message.state),
        weight=message.weight,
        models=tuple(message.models),
        priority_ceiling=known(PRIORITIES, message.priority_ceiling),
        quota=quota(message.quota),
        etag=message.etag,
        created_at=moment(message, "created_at"),
        updated_at=moment(message, "updated_at"),
    )


def key_to_wire(key: t.ApiKey) -> pb.ApiKey:
    """What of a key an update can change, and what names it."""
    return pb.ApiKey(
        tenant=key.tenant,
        name=key.name,
        scopes=scopes_to_wire(key.scopes, "key.scopes"),
        expires_at=moment_to_wire(key.expires_at, "key.expires_at") if key.expires_at else None,
        quota=quota_to_wire(key.quota, "key.quota"),
        etag=key.etag,
    )


def key(message: pb.ApiKey) -> t.ApiKey:
    return t.ApiKey(
        tenant=message.tenant,
        name=message.name,
        scopes=tuple(known(SCOPES, scope) for scope in message.scopes),
        state=known(KEY_STATES, message.state),
        expires_at=moment(message, "expires_at"),
        quota=quota(message.quota),
        created_at=moment(message, "created_at"),
        created_by=message.created_by,
        rotated_at=moment(message, "rotated_at"),
        old_secret_expires_at=moment(message, "old_secret_expires_at"),
        etag=message.etag,
    )


def quota_state(message: pb.QuotaState) -> t.QuotaState:
    return t.QuotaState(
        model=message.model,
        limits=_limits(message.limits),
        requests_used=message.requests_used,
        tokens_used=message.tokens_used,
        concurrent_requests=message.concurrent_requests,
        queued_requests=message.queued_requests,
        reserved_tokens=message.reserved_tokens,
        reserved_cost=from_nanos(message.reserved_nanos),
        day_spent=from_nanos(message.day_spent_nanos),
        month_spent=from_nanos(message.month_spent_nanos),
    )


def usage_row(message: pb.UsageRow, group_by: Collection[t.UsageDimension], currency: str) -> t.UsageRow:
    # The wire cannot tell what is not set from what is empty; what was asked for can.
    dimension = t.UsageDimension
    return t.UsageRow(
        start_time=moment(message, "start_time") if dimension.TIME in group_by else None,
        tenant=message.tenant if dimension.TENANT in group_by else None,
        key=message.key if dimension.KEY in group_by else None,
        model=message.model if dimension.MODEL in group_by else None,
        pool=message.pool if dimension.POOL in group_by else None,
        precision=known(PRECISIONS, message.precision) if dimension.PRECISION in group_by else None,
        task=known(TASKS, message.task) if dimension.TASK in group_by else None,
        requests=message.requests,
        failed_requests=message.failed_requests,
        prompt_tokens=message.prompt_tokens,
        cached_prompt_tokens=message.cached_prompt_tokens,
        output_tokens=message.output_tokens,
        cost=from_nanos(message.cost_nanos),
        fp8_cost=from_nanos(message.fp8_cost_nanos),
        currency=currency,
    )


def pool_status(message: pb.PoolStatus) -> t.PoolStatus:
    return t.PoolStatus(
        name=message.name,
        model=message.model,
        precision=known(PRECISIONS, message.precision),
        workers=message.workers,
        slots=message.slots,
        waiting=message.waiting,
        running=message.running,
        waiting_tokens=message.waiting_tokens,
        tokens_per_second=message.tokens_per_second if message.HasField("tokens_per_second") else None,
        queues=tuple(_queue_status(queue) for queue in message.queues),
    )


def _queue_status(message: pb.QueueStatus) -> t.QueueStatus:
    return t.QueueStatus(
        priority=known(PRIORITIES, message.priority),
        waiting=message.waiting,
        oldest_wait=seconds(message.oldest_wait) if message.HasField("oldest_wait") else None,
    )


def worker_status(message: pb.WorkerStatus) -> t.WorkerStatus:
    return t.WorkerStatus(
        name=message.name,
        pool=message.pool,
        state=known(WORKER_STATES, message.state),
        wanted_state=known(WORKER_STATES, message.wanted_state),
        slots=message.slots,
        running=message.running,
        context_tokens=message.context_tokens,
        profile=profile(message.profile) if message.HasField("profile") else None,
        state_reason=message.state_reason,
    )


def dead_letter(message: pb.DeadLetter) -> t.DeadLetter:
    return t.DeadLetter(
        tenant=message.tenant,
        request_id=message.request_id,
        pool=message.pool,
        attempts=message.attempts,
        detail=message.detail,
        worker=message.worker,
        died_at=moment(message, "died_at"),
    )


def audit_event(message: pb.AuditEvent) -> t.AuditEvent:
    return t.AuditEvent(
        time=moment(message, "time"),
        actor=message.actor,
        action=message.action,
        resource=message.resource,
        tenant=message.tenant,
        before=message.before,
        after=message.after,
    )
