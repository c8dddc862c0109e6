"""The fake server's admin service, as users test their own scripts with it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from bitlane import (
    AlreadyExists,
    AsyncClient,
    AuthenticationError,
    Client,
    EditConflict,
    FailedPrecondition,
    InternalError,
    Limits,
    NotFound,
    Quota,
    Tenant,
    Unavailable,
    UsageRow,
    usage_total,
)
from bitlane.testing import FakeServer, Fault
from tests.contract.sdk.conftest import FAST


def test_the_life_of_a_tenant(sync_client: Client):
    tenants = sync_client.admin.tenants
    quota = Quota(Limits(day_budget=Decimal("5.00")), {"smollm2": Limits(tokens_per_minute=5000)})
    made = tenants.create(Tenant("acme", display_name="Acme Ltd", quota=quota))
    assert (made.quota, made.weight, made.state) == (quota, 1.0, "active")
    assert made.created_at is not None
    with pytest.raises(AlreadyExists):
        tenants.create(Tenant("acme"))
    changed = tenants.update(replace(made, weight=2.0))
    assert (changed.weight, changed.quota, changed.created_at) == (2.0, quota, made.created_at)
    assert changed.etag != made.etag
    with pytest.raises(EditConflict) as caught:
        tenants.update(replace(made, weight=3.0))
    assert caught.value.metadata["current_etag"] == changed.etag
    assert tenants.get("acme") == changed
    with pytest.raises(EditConflict):
        tenants.delete("acme", etag=made.etag)
    tenants.delete("acme")
    assert list(tenants.list()) == []
    for call in (tenants.get, tenants.delete, sync_client.admin.quota):
        with pytest.raises(NotFound):
            call("acme")


def test_more_tenants_than_a_page(threaded_server: FakeServer, sync_client: Client):
    names = [f"t{number:03}" for number in range(250)]
    for name in reversed(names):
        sync_client.admin.tenants.create(Tenant(name))
    assert [tenant.id for tenant in sync_client.admin.tenants.list()] == names
    assert len(threaded_server.calls_of("ListTenants")) == 3


async def test_keys_open_the_server_until_they_end():
    async with FakeServer(api_key="root") as server, AsyncClient(server.target, api_key="root", retry=FAST) as client:
        keys = client.admin.keys
        await client.admin.tenants.create(Tenant("acme"))
        issued = await keys.create("ci", tenant="acme", scopes=["infer"])
        assert issued.key.scopes == ("infer",)

        async def opens(secret: str) -> bool:
            async with AsyncClient(server.target, api_key=secret, retry=FAST) as other:
                try:
                    return bool(await other.list_models())
                except AuthenticationError:
                    return False

        assert await opens(issued.secret)
        assert not await opens("bl_other")
        rotated = await keys.rotate("ci", tenant="acme")
        assert rotated.key.old_secret_expires_at is not None
        assert [await opens(issued.secret), await opens(rotated.secret)] == [True, True]
        last = await keys.rotate("ci", tenant="acme", overlap=0)
        assert [await opens(rotated.secret), await opens(last.secret)] == [False, True]
        expires = datetime.now(UTC) + timedelta(days=1)
        updated = await keys.update(replace(last.key, scopes=["infer", "read"], expires_at=expires))
        assert (updated.scopes, updated.expires_at) == (("infer", "read"), expires)
        assert (await keys.update(replace(updated, expires_at=None))).expires_at is None
        with pytest.raises(EditConflict):
            await keys.update(updated)
        assert (await keys.revoke("ci", tenant="acme")).state == "revoked"
        assert not await opens(last.secret)
        with pytest.raises(FailedPrecondition):
            await keys.rotate("ci", tenant="acme")
        assert (await keys.create("ci", tenant="acme")).key.state == "active"
        operator = await keys.create("me")
        assert [key.name async for key in keys.list()] == ["me"]
        assert await opens(operator.secret)
        other = await keys.create("web", tenant="acme")
        await client.admin.tenants.delete("acme")
        assert not await opens(other.secret)
        with pytest.raises(NotFound):
            await keys.create("ci", tenant="acme")


def test_quota_shows_the_limits_of_a_tenant_and_of_a_key(sync_client: Client):
    admin = sync_client.admin
    quota = Quota(Limits(requests_per_minute=60), {"smollm2": Limits(tokens_per_minute=5000)})
    admin.tenants.create(Tenant("acme", quota=quota))
    admin.keys.create("ci", tenant="acme", quota=Quota(Limits(concurrent_requests=2)))
    assert [(state.model, state.limits.requests_per_minute) for state in admin.quota("acme")] == [
        ("", 60),
        ("smollm2", None),
    ]
    [state] = admin.quota("acme", key="ci")
    assert (state.limits, state.day_spent) == (Limits(concurrent_requests=2), Decimal(0))


def test_usage_is_what_a_test_puts_in(threaded_server: FakeServer, sync_client: Client):
    row = UsageRow(
        start_time=datetime(2026, 11, 1, 10, 17, tzinfo=UTC),
        tenant="acme",
        model="smollm2",
        requests=1,
        failed_requests=0,
        prompt_tokens=10,
        cached_prompt_tokens=2,
        output_tokens=5,
        cost=Decimal("0.25"),
        fp8_cost=Decimal("0.50"),
        currency="EUR",
    )
    later = replace(row, start_time=datetime(2026, 11, 1, 11, 59, tzinfo=UTC))
    threaded_server.usage += [row, row, later, replace(row, tenant="globex")]
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    usage = sync_client.admin.usage
    [total] = usage(start=start, end=end)
    assert (total.requests, total.cost, total.currency, total.tenant) == (4, Decimal(1), "EUR", None)
    rows = usage("acme", start=start, end=end, group_by=["time", "model"])
    assert [(each.start_time, each.requests) for each in rows] == [
        (datetime(2026, 11, 1, 10, tzinfo=UTC), 2),
        (datetime(2026, 11, 1, 11, tzinfo=UTC), 1),
    ]
    assert usage_total(rows).savings == Decimal("0.75")
    assert usage("acme", start=start, end=datetime(2026, 11, 1, 10, 17, tzinfo=UTC), interval="minute") == []
    assert [each.tenant for each in usage(start=start, end=end, group_by=["tenant"])] == ["acme", "globex"]


def test_faults_and_calls_are_as_with_every_other_call(threaded_server: FakeServer, sync_client: Client):
    threaded_server.inject(Fault.unavailable(method="CreateTenant"))
    sync_client.list_models()
    with pytest.raises(Unavailable):
        sync_client.admin.tenants.create(Tenant("acme"))
    assert [call.method for call in threaded_server.calls] == ["ListModels", "CreateTenant"]
    assert threaded_server.calls[1].ended.wait(10)
    assert threaded_server.calls[1].outcome == "failed"


def test_a_twin_knows_the_same_tenants(threaded_server: FakeServer, sync_client: Client):
    sync_client.admin.tenants.create(Tenant("acme"))
    with threaded_server.twin() as twin, Client(twin.target) as other:
        assert [tenant.id for tenant in other.admin.tenants.list()] == ["acme"]


def test_the_rest_is_not_there(sync_client: Client):
    with pytest.raises(InternalError, match="UNIMPLEMENTED"):
        sync_client.admin.pools()
