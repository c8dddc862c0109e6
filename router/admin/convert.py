"""Messages of the admin API, from and to the router's own types. With router.convert the edge to protobuf."""

from collections.abc import Iterable

from google.protobuf import timestamp_pb2

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from broker.types import Limits
from precision.decision import PriorityClass
from router.directory.keys import ApiKey, KeyState
from router.directory.quota import LimitSettings, Quota
from router.directory.tenants import Tenant, TenantState
from router.scopes import Scope

_SCOPES = {
    Scope.INFER: apb.SCOPE_INFER,
    Scope.READ: apb.SCOPE_READ,
    Scope.ADMIN: apb.SCOPE_ADMIN,
    Scope.OPERATE: apb.SCOPE_OPERATE,
}
SCOPES_BY_NUMBER: dict[int, Scope] = {number: scope for scope, number in _SCOPES.items()}
_TENANT_STATES = {
    TenantState.ACTIVE: apb.TENANT_STATE_ACTIVE,
    TenantState.SUSPENDED: apb.TENANT_STATE_SUSPENDED,
}
_KEY_STATES = {
    KeyState.ACTIVE: apb.API_KEY_STATE_ACTIVE,
    KeyState.EXPIRED: apb.API_KEY_STATE_EXPIRED,
    KeyState.REVOKED: apb.API_KEY_STATE_REVOKED,
}
LIMIT_FIELDS = tuple(apb.Limits.DESCRIPTOR.fields_by_name)


def timestamp(time_ms: int) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromMilliseconds(time_ms)
    return message


def tenant_message(tenant: Tenant) -> apb.Tenant:
    return apb.Tenant(
        id=tenant.id,
        display_name=tenant.display_name,
        state=_TENANT_STATES[tenant.state],
        weight=tenant.weight,
        models=tenant.models,
        priority_ceiling=pb.Priority.ValueType(tenant.priority_ceiling),
        quota=quota_message(tenant.quota),
        etag=tenant.etag,
        created_at=timestamp(tenant.created_ms),
        updated_at=timestamp(tenant.updated_ms),
    )


def tenant_settings(message: apb.Tenant) -> dict[str, object]:
    """The settings of a valid message, by the names that `Tenant` has for them. What is not set takes its default."""
    suspended = message.state == apb.TENANT_STATE_SUSPENDED
    return {
        "display_name": message.display_name,
        "state": TenantState.SUSPENDED if suspended else TenantState.ACTIVE,
        "weight": message.weight or 1.0,
        "models": tuple(dict.fromkeys(message.models)),
        "priority_ceiling": PriorityClass(message.priority_ceiling or pb.PRIORITY_INTERACTIVE),
        "quota": quota_of(message.quota),
    }


def key_message(key: ApiKey, now_ms: float) -> apb.ApiKey:
    message = apb.ApiKey(
        tenant=key.tenant,
        name=key.name,
        scopes=sorted(_SCOPES[scope] for scope in key.scopes),
        state=_KEY_STATES[key.state(now_ms)],
        quota=quota_message(key.quota),
        created_at=timestamp(key.created_ms),
        created_by=key.created_by,
        etag=key.etag,
    )
    for field, time_ms in (
        (message.expires_at, key.expires_ms),
        (message.rotated_at, key.rotated_ms),
        (message.old_secret_expires_at, key.old_secret_expires_ms),
    ):
        if time_ms is not None:
            field.CopyFrom(timestamp(time_ms))
    return message


def scopes_of(numbers: Iterable[int]) -> frozenset[Scope]:
    return frozenset(SCOPES_BY_NUMBER[number] for number in numbers)


def quota_of(message: apb.Quota) -> Quota:
    return Quota(
        limits=_settings(message.limits),
        model_limits={model: _settings(limits) for model, limits in sorted(message.model_limits.items())},
    )


def quota_message(quota: Quota) -> apb.Quota:
    return apb.Quota(
        limits=_limits(quota.limits),
        model_limits={model: _limits(limits) for model, limits in quota.model_limits.items()},
    )


def limits_message(limits: Limits) -> apb.Limits:
    """As they apply."""
    return apb.Limits(
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        concurrent_requests=limits.concurrent_requests,
        queued_requests=limits.queued_requests,
        day_budget_nanos=limits.day_budget,
        month_budget_nanos=limits.month_budget,
    )


def _settings(message: apb.Limits) -> LimitSettings:
    return LimitSettings(**{field.name: value for field, value in message.ListFields()})


def _limits(settings: LimitSettings) -> apb.Limits:
    return apb.Limits(**{name: getattr(settings, name) for name in LIMIT_FIELDS})
