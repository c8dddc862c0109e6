"""What goes wrong with `client.admin`: errors, and what is sent again and what never."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from bitlane import (
    AlreadyExists,
    AsyncClient,
    BitlaneError,
    ConnectionFailed,
    EditConflict,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Tenant,
    Unavailable,
    Violation,
)
from bitlane.testing import FakeServer, Fault
from bitlane.v1 import admin_pb2 as pb
from tests.contract.sdk.admin_table import CALLS
from tests.contract.sdk.conftest import FAST
from tests.contract.sdk.scripted_admin import scripted

AWAY = Fault("UNAVAILABLE", "the queue cannot be reached", reason="BROKER_UNAVAILABLE")
READS = {"GetTenant", "GetQuotaState", "GetUsage", "ListPools"}
# They leave the same behind, however often they come.
REPEATABLE = {"RevokeApiKey", "SetWorkerState"}


@pytest.mark.parametrize("method", CALLS)
async def test_only_what_can_be_repeated_is_sent_again(method: str):
    """BROKER_UNAVAILABLE leaves open whether it took effect: a key would be rotated twice, and its secret be lost."""
    call, _, answer, result = CALLS[method]
    async with scripted() as service, AsyncClient(service.target, retry=FAST) as client:
        service.answer(AWAY, answer, method=method)
        if method in READS | REPEATABLE:
            assert await call(client.admin) == result
            assert len(service.asked) == 2
        else:
            with pytest.raises(Unavailable, match="the queue cannot be reached"):
                await call(client.admin)
            assert len(service.asked) == 1


@pytest.mark.parametrize("method", ["CreateTenant", "RotateApiKey", "DeleteTenant"])
async def test_what_reached_no_server_is_sent_to_the_next(method: str):
    async with FakeServer() as gone:
        target = gone.target
    call, request, answer, result = CALLS[method]
    async with scripted() as service, AsyncClient([target, service.target], retry=FAST) as client:
        service.answer(answer)
        assert await call(client.admin) == result
        assert service.asked == [request]


async def test_after_a_change_that_failed_the_next_call_goes_to_the_next_server():
    async with scripted() as away, scripted() as well, AsyncClient([away.target, well.target], retry=FAST) as client:
        away.answer(AWAY, method="DeleteTenant")
        with pytest.raises(Unavailable):
            await client.admin.tenants.delete("acme")
        await client.admin.tenants.delete("acme")
        assert (len(away.asked), len(well.asked)) == (1, 1)


async def test_a_secret_that_was_made_and_lost_is_not_made_again():
    """The server made the key, and the connection broke before it could say so."""
    async with FakeServer() as server, AsyncClient(server.target, retry=FAST) as client:
        server.inject(Fault.drop(after=0, method="CreateApiKey"))
        with pytest.raises(ConnectionFailed):
            await client.admin.keys.create("ci")
        assert [key.name async for key in client.admin.keys.list()] == ["ci"]
        assert len(server.calls_of("CreateApiKey")) == 1
        assert (await client.admin.keys.rotate("ci", overlap=0)).secret


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("NOT_FOUND", "no such tenant", reason="TENANT_NOT_FOUND"), NotFound),
        (Fault("ALREADY_EXISTS", "there is one", reason="TENANT_EXISTS"), AlreadyExists),
        (Fault("ABORTED", "changed", reason="ETAG_MISMATCH", metadata={"current_etag": "x"}), EditConflict),
        (Fault("FAILED_PRECONDITION", "it is revoked", reason="KEY_REVOKED"), FailedPrecondition),
        (Fault("PERMISSION_DENIED", "no scope operate", reason="SCOPE_MISSING"), PermissionDenied),
        (
            Fault("INVALID_ARGUMENT", "bad", "FIELD_INVALID", violations=[Violation("tenant.weight", "is 0")]),
            InvalidRequest,
        ),
    ],
)
async def test_errors_are_those_of_the_tree(fault: Fault, kind: type[BitlaneError]):
    async with scripted() as service, AsyncClient(service.target, retry=FAST) as client:
        service.answer(fault, method="UpdateTenant")
        with pytest.raises(kind) as caught:
            await client.admin.tenants.update(Tenant("acme", etag="old"))
        assert type(caught.value) is kind
        assert (caught.value.reason, caught.value.metadata) == (fault.reason, fault.metadata)
        assert list(caught.value.violations) == list(fault.violations)
        assert len(service.asked) == 1


async def test_an_error_ends_a_list_where_it_came():
    async with scripted() as service, AsyncClient(service.target, retry=FAST) as client:
        first = pb.ListTenantsResponse(tenants=[pb.Tenant(id="a")], next_page_token="p2")
        service.answer(first, Fault("PERMISSION_DENIED", "revoked meanwhile", "SCOPE_MISSING"), method="ListTenants")
        tenants = aiter(client.admin.tenants.list())
        assert (await anext(tenants)).id == "a"
        with pytest.raises(PermissionDenied):
            await anext(tenants)


WRONG: list[Callable[[Any], Awaitable[object]]] = [
    lambda admin: admin.usage(interval="week"),
    lambda admin: admin.usage(group_by=["tenant", "colour"]),
    lambda admin: admin.keys.create("ci", scopes=["write"]),
    lambda admin: admin.tenants.create(replace(Tenant("acme"), state="gone")),
]


@pytest.mark.parametrize("call", WRONG)
async def test_what_is_plainly_wrong_is_never_sent(call: Callable[[Any], Awaitable[object]]):
    async with scripted() as service, AsyncClient(service.target, retry=FAST) as client:
        with pytest.raises(InvalidRequest) as caught:
            await call(client.admin)
        assert caught.value.metadata == {"checked_by": "client"}
        assert service.asked == []


async def test_a_closed_client_says_so():
    async with scripted() as service:
        client = AsyncClient(service.target)
        await client.admin.pools()
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await client.admin.pools()


async def test_an_answer_above_grpc_s_own_bound_arrives():
    async with scripted() as service, AsyncClient(service.target) as client:
        row = pb.UsageRow(tenant="t" * 64, key="k" * 64, model="m" * 64, pool="p" * 64, requests=1)
        service.answer(pb.GetUsageResponse(rows=[row] * 20_000, currency="USD"))
        assert len(await client.admin.usage()) == 20_000
