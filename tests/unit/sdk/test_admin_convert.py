"""The messages of the admin API and the SDK's types say the same."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitlane import (
    UNLIMITED,
    ApiKey,
    InvalidRequest,
    IssuedKey,
    Limits,
    Quota,
    Scope,
    Tenant,
    UsageDimension,
    UsageInterval,
    WorkerState,
    admin_convert,
    admin_enums,
    admin_types,
)
from bitlane.v1 import admin_pb2 as pb
from tests.unit.sdk.test_admin_values import limits

ENUMS = ["Scope", "TenantState", "ApiKeyState", "WorkerState", "UsageInterval", "UsageDimension"]


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_the_same_members(name: str):
    ours: type[StrEnum] = getattr(admin_types, name)
    names: list[str] = getattr(pb, name).keys()
    prefix = names[0].removesuffix("UNSPECIFIED")
    assert [member.name for member in ours] == [each.removeprefix(prefix) for each in names]
    assert all(member.value == member.name.lower() for member in ours)


@pytest.mark.parametrize(
    ("names", "enum"),
    [
        (admin_enums.ScopeName, Scope),
        (admin_enums.TenantStateName, admin_enums.TenantState),
        (admin_enums.UsageIntervalName, UsageInterval),
        (admin_enums.UsageDimensionName, UsageDimension),
    ],
)
def test_literals_name_every_member(names: Any, enum: type[StrEnum]):
    assert [*get_args(names)] == [member.value for member in enum if member.value != "unspecified"]


@pytest.mark.parametrize(
    ("ours", "wire"),
    [
        (admin_types.Tenant, pb.Tenant),
        (admin_types.ApiKey, pb.ApiKey),
        (admin_types.Limits, pb.Limits),
        (admin_types.Quota, pb.Quota),
        (admin_types.QuotaState, pb.QuotaState),
        (admin_types.UsageRow, pb.UsageRow),
        (admin_types.PoolStatus, pb.PoolStatus),
        (admin_types.WorkerStatus, pb.WorkerStatus),
        (admin_types.DeadLetter, pb.DeadLetter),
        (admin_types.AuditEvent, pb.AuditEvent),
        (admin_types.IssuedKey, pb.CreateApiKeyResponse),
        (admin_types.IssuedKey, pb.RotateApiKeyResponse),
    ],
)
def test_no_field_is_forgotten(ours: Any, wire: Any):
    names = {field.name for field in wire.DESCRIPTOR.fields}
    money = {name: name.removesuffix("_nanos") for name in names} | {"reserved_nanos": "reserved_cost"}
    extra = {"currency"} if wire is pb.UsageRow else set[str]()
    assert set(ours.__dataclass_fields__) == {money[name] for name in names} | extra


@given(limits, st.dictionaries(st.text("abc:-", min_size=1), limits, max_size=3))
def test_quotas_survive_both_ways(bounds: Limits, models: dict[str, Limits]):
    quota = Quota(bounds, models)
    assert admin_convert.quota(admin_convert.quota_to_wire(quota, "quota")) == quota


def test_unset_zero_and_unlimited_are_three_things():
    wire = admin_convert.quota_to_wire(
        Quota(Limits(requests_per_minute=0, tokens_per_minute=UNLIMITED, day_budget=UNLIMITED, month_budget=0)), "quota"
    )
    assert wire.limits == pb.Limits(
        requests_per_minute=0, tokens_per_minute=-1, day_budget_nanos=-1, month_budget_nanos=0
    )
    assert not wire.limits.HasField("concurrent_requests")
    assert wire.limits.HasField("month_budget_nanos")


@pytest.mark.parametrize(
    ("bounds", "field"),
    [
        (Limits(day_budget=Decimal("0.0000000001")), "tenant.quota.limits.day_budget: .*at most 9 decimals"),
        (Limits(day_budget=Decimal(-2)), r"tenant.quota.limits.day_budget: must be at least 0, or UNLIMITED \(-1\)"),
        (Limits(day_budget=Decimal("-0.000000001")), "tenant.quota.limits.day_budget: must be at least 0"),
        (Limits(month_budget=0.1), "tenant.quota.limits.month_budget: 0.1 may not be exact: give a Decimal"),  # pyright: ignore[reportArgumentType]  # wrong on purpose
        (Limits(month_budget=10**10), "tenant.quota.limits.month_budget: .*below 10 billion"),
        (Limits(requests_per_minute=2**63), "tenant.quota.limits.requests_per_minute: .*does not fit"),
        (Limits(requests_per_minute="6"), "tenant.quota.limits.requests_per_minute: .*does not fit"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_a_limit_that_cannot_be_is_named(bounds: Limits, field: str):
    with pytest.raises(InvalidRequest, match=field) as caught:
        admin_convert.tenant_to_wire(Tenant("acme", quota=Quota(bounds)))
    assert caught.value.metadata == {"checked_by": "client"}


def test_limits_of_a_model_are_named_with_it():
    quota = Quota(model_limits={"smollm2": Limits(day_budget=Decimal("NaN"))})
    with pytest.raises(InvalidRequest, match=r"key.quota.model_limits\[smollm2\].day_budget"):
        admin_convert.key_to_wire(ApiKey("acme", "ci", quota=quota))


@pytest.mark.parametrize(
    ("tenant", "field"),
    [
        (Tenant("acme", state="closed"), "tenant.state: 'closed' is none of active, suspended"),  # pyright: ignore[reportArgumentType]  # wrong on purpose
        (Tenant("acme", state=admin_types.TenantState.UNSPECIFIED), "tenant.state: "),
        (Tenant("acme", priority_ceiling="urgent"), "tenant.priority_ceiling: 'urgent' is none of"),  # pyright: ignore[reportArgumentType]
        (Tenant("acme", weight=0), "tenant.weight: must be above 0"),
        (Tenant("acme", weight="2"), "tenant.weight: "),  # pyright: ignore[reportArgumentType]
        (Tenant("acme", models="smollm2"), "tenant.models: must be a list of names"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tenant: Tenant, field: str):
    with pytest.raises(InvalidRequest, match=field):
        admin_convert.tenant_to_wire(tenant)


def test_moments_need_a_time_zone():
    naive = datetime(2026, 11, 1)  # noqa: DTZ001  # wrong on purpose
    with pytest.raises(InvalidRequest, match=r"key\.expires_at: 2026-11-01T00:00:00 has no time zone"):
        admin_convert.key_to_wire(ApiKey("acme", "ci", expires_at=naive))
    assert admin_convert.moment_to_wire(datetime(2026, 11, 1, tzinfo=UTC), "x").seconds == 1_793_491_200


def test_values_of_a_newer_server_read_as_unspecified():
    assert admin_convert.worker_status(pb.WorkerStatus(state=99)).state is WorkerState.UNSPECIFIED  # pyright: ignore[reportArgumentType]  # unknown on purpose
    assert admin_convert.key(pb.ApiKey(scopes=[99])).scopes == (Scope.UNSPECIFIED,)  # pyright: ignore[reportArgumentType]


def test_what_a_newer_server_set_is_not_lost_by_an_update():
    """It cannot be sent back, so that the update is refused."""
    newer = admin_convert.tenant(pb.Tenant(id="acme", weight=1, state=99, priority_ceiling=1))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidRequest, match=r"tenant\.state"):
        admin_convert.tenant_to_wire(newer)


def test_what_usage_is_not_told_apart_by_is_none():
    row = pb.UsageRow(tenant="acme", model="m", requests=3, cost_nanos=1, fp8_cost_nanos=4)
    converted = admin_convert.usage_row(row, [UsageDimension.TENANT, UsageDimension.TASK], "USD")
    assert (converted.tenant, converted.task, converted.model, converted.start_time) == (
        "acme",
        "unspecified",
        None,
        None,
    )
    assert (converted.cost, converted.savings) == (Decimal("0.000000001"), Decimal("0.000000003"))


def test_a_secret_is_not_in_any_representation():
    issued = IssuedKey(ApiKey("acme", "ci"), "bl_very_secret")
    assert "very_secret" not in f"{issued!r} {issued} {[issued]}"
    assert issued.secret == "bl_very_secret"
