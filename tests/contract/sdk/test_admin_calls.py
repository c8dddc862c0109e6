"""Every call of `client.admin`: what it asks and what it makes of the answer."""

import inspect
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from bitlane import (
    AsyncClient,
    Client,
    RetryPolicy,
    Tenant,
    WorkerState,
    WorkerStatus,
    sync_admin,
)
from bitlane.admin import AsyncAdmin, AsyncDeadLetters, AsyncWorkers
from bitlane.admin_tenants import AsyncKeys, AsyncTenants
from bitlane.v1 import admin_pb2 as pb
from tests.contract.sdk import admin_data as data
from tests.contract.sdk.admin_table import ACME, CALLS, CI, EVENT, LETTER, LISTS, without
from tests.contract.sdk.scripted_admin import SERVICE, ScriptedAdmin, scripted, scripted_in_thread

FAST = RetryPolicy(initial_backoff=0.001, max_backoff=0.01)


@pytest.fixture
async def service() -> AsyncIterator[ScriptedAdmin]:
    async with scripted() as service:
        yield service


@pytest.fixture
async def admin(service: ScriptedAdmin) -> AsyncIterator[AsyncAdmin]:
    async with AsyncClient(service.target, retry=FAST) as client:
        yield client.admin


def test_all_methods_are_here():
    assert {method.name for method in SERVICE.methods} == {*CALLS, *LISTS, "ListWorkers"}


@pytest.mark.parametrize("method", CALLS)
async def test_a_call(method: str, service: ScriptedAdmin, admin: AsyncAdmin):
    call, request, answer, result = CALLS[method]
    service.answer(answer)
    assert await call(admin) == result
    assert service.asked == [request]


@pytest.mark.parametrize("method", LISTS)
async def test_a_list_follows_its_pages(method: str, service: ScriptedAdmin, admin: AsyncAdmin):
    """Also over one that is empty and not the last, as a filter of the server can leave."""
    call, request, answer, result = LISTS[method]
    first, empty, last = (type(answer)() for _ in range(3))
    first.CopyFrom(answer)
    first.next_page_token = "p2"
    empty.next_page_token = "p3"
    last.CopyFrom(answer)
    service.answer(first, empty, last)
    assert [item async for item in call(admin)] == result * 2
    tokens = [getattr(asked, "page_token", None) for asked in service.asked]
    assert tokens == ["", "p2", "p3"]
    assert [without(asked, "page_token") for asked in service.asked] == [request] * 3


async def test_pages_are_asked_for_when_they_are_needed(service: ScriptedAdmin, admin: AsyncAdmin):
    service.answer(pb.ListTenantsResponse(tenants=[data.ACME, data.GLOBEX], next_page_token="p2"))
    tenants = aiter(admin.tenants.list())
    assert service.asked == []
    assert [(await anext(tenants)).id, (await anext(tenants)).id] == ["acme", "globex"]
    assert len(service.asked) == 1


async def test_workers(service: ScriptedAdmin, admin: AsyncAdmin):
    service.answer(data.WORKERS)
    first, second = [worker async for worker in admin.workers.list("smollm2/fp4")]
    assert service.asked == [pb.ListWorkersRequest(pool="smollm2/fp4")]
    assert first.profile is not None
    assert (first.profile.gpu, first.profile.weight_format) == ("NVIDIA B200", "NVFP4")
    serving, draining = WorkerState.SERVING, WorkerState.DRAINING
    assert second == WorkerStatus("node-a-2", "smollm2/fp4", serving, draining, 16, 3, 8192, None)


async def test_what_a_worker_is_told(service: ScriptedAdmin, admin: AsyncAdmin):
    await admin.workers.drain("m/fp4", "w")
    await admin.workers.quarantine("m/fp4", "w")
    await admin.workers.undrain("m/fp4", "w")
    told = [asked.state for asked in service.asked if isinstance(asked, pb.SetWorkerStateRequest)]
    assert told == [pb.WORKER_STATE_DRAINING, pb.WORKER_STATE_QUARANTINED, pb.WORKER_STATE_SERVING]


async def test_what_is_left_out_is_not_sent(service: ScriptedAdmin, admin: AsyncAdmin):
    service.answer(pb.CreateApiKeyResponse(key=data.CI), pb.RotateApiKeyResponse(key=data.CI))
    await admin.keys.create("ci")
    await admin.keys.rotate("ci")
    await admin.usage()
    await admin.quota()
    assert [item async for item in admin.audit()] == []
    assert service.asked == [
        pb.CreateApiKeyRequest(name="ci"),
        pb.RotateApiKeyRequest(name="ci"),
        pb.GetUsageRequest(),
        pb.GetQuotaStateRequest(),
        pb.ListAuditEventsRequest(),
    ]


async def test_a_key_of_a_hash_has_no_secret(service: ScriptedAdmin, admin: AsyncAdmin):
    service.answer(pb.CreateApiKeyResponse(key=data.CI))
    assert (await admin.keys.create("ci", secret_sha256="ab" * 32)).secret == ""
    assert service.asked == [pb.CreateApiKeyRequest(name="ci", secret_sha256="ab" * 32)]


async def test_the_key_and_the_deadline_go_with_every_call():
    async with scripted() as service, AsyncClient(service.target, api_key="bl_k", metadata={"X-A": "b"}) as client:
        await client.admin.pools()
        assert service.metadata["authorization"] == "Bearer bl_k"
        assert service.metadata["x-a"] == "b"
        assert 0 < service.time_left <= 11
        await client.admin.usage()
        assert 11 < service.time_left <= 61


@pytest.mark.parametrize(
    ("asynchronous", "blocking"),
    [
        (AsyncAdmin, sync_admin.Admin),
        (AsyncTenants, sync_admin.Tenants),
        (AsyncKeys, sync_admin.Keys),
        (AsyncWorkers, sync_admin.Workers),
        (AsyncDeadLetters, sync_admin.DeadLetters),
    ],
)
def test_both_clients_take_the_same_arguments(asynchronous: type, blocking: type):
    def calls(kind: type) -> dict[str, list[inspect.Parameter]]:
        return {
            name: list(inspect.signature(member).parameters.values())
            for name, member in inspect.getmembers(kind, callable)
            if not name.startswith("_")
        }

    assert calls(asynchronous) == calls(blocking)


def test_the_blocking_client_has_the_same_calls():
    with scripted_in_thread() as service, Client(service.target, retry=FAST) as client:
        service.answer(*(answer for _, _, answer, _ in CALLS.values()))
        first = pb.ListTenantsResponse(tenants=[data.ACME], next_page_token="p2")
        service.answer(first, pb.ListTenantsResponse(tenants=[data.ACME]))
        service.answer(
            *(answer for _, _, answer, _ in LISTS.values() if not isinstance(answer, pb.ListTenantsResponse))
        )
        service.answer(data.WORKERS)
        admin = client.admin
        assert admin is client.admin
        assert admin.tenants.create(Tenant("acme")) == admin.tenants.get("acme") == admin.tenants.update(ACME) == ACME
        assert admin.tenants.delete("acme") is None
        assert list(admin.tenants.list()) == [ACME, ACME]
        assert admin.keys.create("ci", expires_at=datetime.now(UTC) + timedelta(days=1)).key == CI
        assert list(admin.keys.list(tenant="acme")) == [CI]
        assert admin.keys.update(CI) == admin.keys.revoke("ci") == CI
        assert admin.keys.rotate("ci", overlap=1.5).secret == "bl_new"
        assert len(admin.quota("acme")) == 1
        assert admin.usage("acme", group_by=["model"])[0].model == "smollm2"
        assert len(admin.pools()) == len(list(admin.workers.list())) == 2
        admin.workers.drain("m/fp4", "w")
        admin.workers.undrain("m/fp4", "w")
        admin.workers.quarantine("m/fp4", "w")
        assert list(admin.dead_letters.list()) == [LETTER]
        admin.dead_letters.replay("r1")
        admin.dead_letters.purge("r1")
        assert list(admin.audit()) == [EVENT]
        assert {type(asked).__name__.removesuffix("Request") for asked in service.asked} == {
            method.name for method in SERVICE.methods
        }
