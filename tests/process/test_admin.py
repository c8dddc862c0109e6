"""Tenants and keys at run time, on two routers: what is changed at one acts on both within a second."""

import time
from collections.abc import Callable, Iterator
from itertools import count

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

import bitlane
from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from deploy.local.stack import Stack
from tests.process.admin_calls import Api, code_of, generate, key_of, refused
from tests.process.scripted import expected_text

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
# A second is promised; the rest is this machine's noise.
SOON_S = 3.0
_numbers = count()


@pytest.fixture(scope="module")
def two_routers() -> Iterator[Stack]:
    with Stack(engine="scripted", engine_options='{"token_ms": 2, "tokens": 400}') as stack:
        stack.start()
        stack.target_of(stack.add_router())
        yield stack


@pytest.fixture(scope="module")
def apis(two_routers: Stack) -> Iterator[tuple[Api, Api]]:
    """The operator, at each router."""
    first, second = (two_routers.target_of(router) for router in two_routers.routers)
    with grpc.insecure_channel(first) as one, grpc.insecure_channel(second) as two:
        yield Api(one), Api(two)


@pytest.fixture
def operator(apis: tuple[Api, Api]) -> Api:
    return apis[0]


@pytest.fixture
def tenant(operator: Api) -> str:
    """A tenant of the test's own."""
    tenant_id = f"tenant-{next(_numbers)}"
    operator.make_tenant(tenant_id)
    return tenant_id


def everywhere(apis: tuple[Api, Api], secret: str, code: grpc.StatusCode) -> None:
    """Waits until the key is answered so by both routers, within the promised time."""
    began = time.monotonic()
    for api in apis:
        while (found := code_of(lambda api=api: generate(api.with_key(secret)))) is not code:
            assert time.monotonic() - began < SOON_S, f"{found} instead of {code}"
            time.sleep(0.02)


def sleep_until(moment: Timestamp) -> None:
    time.sleep(max(0.0, moment.ToMilliseconds() / 1000 - time.time()))


def test_a_tenant_and_its_key_work_at_once_on_every_router(apis: tuple[Api, Api], operator: Api) -> None:
    made = operator.make_tenant("initech", display_name="Initech Ä", weight=3, models=["smollm2"])
    assert (made.state, made.priority_ceiling) == (apb.TENANT_STATE_ACTIVE, pb.PRIORITY_INTERACTIVE)
    assert made.etag
    assert operator.ask(operator.admin.GetTenant, apb.GetTenantRequest(tenant="initech")).tenant == made
    secret = operator.make_key("initech", "ci")
    assert secret.startswith("bl_")
    assert len(secret) == len("bl_") + 43
    # Whoever made it can use it at once on the router that made it.
    assert generate(operator.with_key(secret)) == expected_text("hi", 3)
    everywhere(apis, secret, grpc.StatusCode.OK)
    own = apis[1].with_key(secret)
    assert own.ask(own.admin.GetTenant, apb.GetTenantRequest()).tenant == made
    assert [t.id for t in own.ask(own.admin.ListTenants, apb.ListTenantsRequest()).tenants] == ["initech"]
    key = key_of(operator, "initech", "ci")
    assert (key.tenant, key.scopes, key.created_by) == ("initech", [apb.SCOPE_INFER, apb.SCOPE_READ], "operator/local")
    assert key.state == apb.API_KEY_STATE_ACTIVE
    for again in (lambda: operator.make_tenant("initech"), lambda: operator.make_key("initech", "ci")):
        assert refused(again).code is grpc.StatusCode.ALREADY_EXISTS


def test_rotation_overlaps(apis: tuple[Api, Api], operator: Api, tenant: str) -> None:
    old = operator.make_key(tenant)
    everywhere(apis, old, grpc.StatusCode.OK)
    rotate = apb.RotateApiKeyRequest(tenant=tenant, name="test", overlap=Duration(seconds=6))
    answer = operator.ask(operator.admin.RotateApiKey, rotate)
    assert answer.key.old_secret_expires_at.seconds > answer.key.rotated_at.seconds
    everywhere(apis, answer.secret, grpc.StatusCode.OK)
    assert code_of(lambda: generate(apis[1].with_key(old))) is grpc.StatusCode.OK
    sleep_until(answer.key.old_secret_expires_at)
    everywhere(apis, old, UNAUTHENTICATED)
    everywhere(apis, answer.secret, grpc.StatusCode.OK)
    at_once = apb.RotateApiKeyRequest(tenant=tenant, name="test", overlap=Duration())
    last = operator.ask(operator.admin.RotateApiKey, at_once)
    assert not last.key.HasField("old_secret_expires_at")
    assert code_of(lambda: generate(operator.with_key(answer.secret))) is UNAUTHENTICATED
    everywhere(apis, last.secret, grpc.StatusCode.OK)
    too_long = apb.RotateApiKeyRequest(tenant=tenant, name="test", overlap=Duration(seconds=31 * 24 * 3600))
    assert refused(lambda: operator.ask(operator.admin.RotateApiKey, too_long)).fields == ("overlap",)


def test_a_revoked_key_ends_at_once_and_for_good(apis: tuple[Api, Api], operator: Api, tenant: str) -> None:
    secret = operator.make_key(tenant)
    everywhere(apis, secret, grpc.StatusCode.OK)
    revoke = apb.RevokeApiKeyRequest(tenant=tenant, name="test")
    revoked = operator.ask(operator.admin.RevokeApiKey, revoke).key
    assert revoked.state == apb.API_KEY_STATE_REVOKED
    assert code_of(lambda: generate(operator.with_key(secret))) is UNAUTHENTICATED
    everywhere(apis, secret, UNAUTHENTICATED)
    assert operator.ask(operator.admin.RevokeApiKey, revoke).key == revoked
    rotate = apb.RotateApiKeyRequest(tenant=tenant, name="test")
    assert refused(lambda: operator.ask(operator.admin.RotateApiKey, rotate)).reason == "KEY_REVOKED"
    # The name may be used again; the old secret stays shut.
    assert code_of(lambda: generate(operator.with_key(operator.make_key(tenant)))) is grpc.StatusCode.OK
    assert code_of(lambda: generate(operator.with_key(secret))) is UNAUTHENTICATED


def test_a_key_ends_when_it_expires(apis: tuple[Api, Api], operator: Api, tenant: str) -> None:
    ends = Timestamp(seconds=int(time.time()) + 6)
    secret = operator.make_key(tenant, expires_at=ends)
    assert key_of(operator, tenant).expires_at == ends
    everywhere(apis, secret, grpc.StatusCode.OK)
    sleep_until(ends)
    everywhere(apis, secret, UNAUTHENTICATED)
    assert key_of(operator, tenant).state == apb.API_KEY_STATE_EXPIRED
    # Another end, and it is valid again.
    longer = apb.ApiKey(tenant=tenant, name="test", scopes=[apb.SCOPE_INFER])
    assert not operator.ask(operator.admin.UpdateApiKey, apb.UpdateApiKeyRequest(key=longer)).key.HasField("expires_at")
    everywhere(apis, secret, grpc.StatusCode.OK)
    past = refused(lambda: operator.make_key(tenant, "past", expires_at=Timestamp(seconds=1)))
    assert (past.code, past.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("expires_at",))


def set_state(operator: Api, tenant: str, state: apb.TenantState.ValueType) -> None:
    request = apb.UpdateTenantRequest(tenant=apb.Tenant(id=tenant, state=state))
    operator.ask(operator.admin.UpdateTenant, request)


def test_a_suspended_tenant_is_refused_and_loses_nothing(
    two_routers: Stack, apis: tuple[Api, Api], operator: Api, tenant: str
) -> None:
    secret = operator.make_key(tenant)
    everywhere(apis, secret, grpc.StatusCode.OK)
    with bitlane.Client(two_routers.target, api_key=secret) as client:
        stream = client.stream("long", model="smollm2", max_tokens=300)
        next(stream)
        set_state(operator, tenant, apb.TENANT_STATE_SUSPENDED)
        everywhere(apis, secret, grpc.StatusCode.PERMISSION_DENIED)
        denied = refused(lambda: generate(operator.with_key(secret)))
        assert (denied.reason, denied.metadata["tenant"]) == ("TENANT_SUSPENDED", tenant)
        assert stream.result().text == expected_text("long", 300)
    set_state(operator, tenant, apb.TENANT_STATE_ACTIVE)
    everywhere(apis, secret, grpc.StatusCode.OK)


def test_a_revoked_keys_stream_may_finish_and_is_not_resumed(two_routers: Stack, operator: Api, tenant: str) -> None:
    secret = operator.make_key(tenant)
    with bitlane.Client(two_routers.target, api_key=secret) as client:
        stream = client.stream("long", model="smollm2", max_tokens=300)
        next(stream)
        operator.ask(operator.admin.RevokeApiKey, apb.RevokeApiKeyRequest(tenant=tenant, name="test"))
        with pytest.raises(bitlane.AuthenticationError):
            client.resume(stream.request_id).result()
        with pytest.raises(bitlane.AuthenticationError):
            client.cancel(stream.request_id)
        assert stream.result().text == expected_text("long", 300)


def test_a_deleted_tenant_leaves_nothing_to_the_next_one(
    two_routers: Stack, apis: tuple[Api, Api], operator: Api, tenant: str
) -> None:
    secret = operator.make_key(tenant, scopes=[apb.SCOPE_INFER, apb.SCOPE_READ])
    put = ppb.PutPolicyRequest(tenant=tenant, document="map: {chat: FP8}\n")
    operator.ask(operator.policies.PutPolicy, put)
    shadow = ppb.SetShadowPolicyRequest(tenant=tenant, document="{}")
    operator.ask(operator.policies.SetShadowPolicy, shadow)
    everywhere(apis, secret, grpc.StatusCode.OK)
    with bitlane.Client(two_routers.target, api_key=secret) as client:
        stream = client.stream("long", model="smollm2", max_tokens=300)
        next(stream)
        operator.ask(operator.admin.DeleteTenant, apb.DeleteTenantRequest(tenant=tenant))
        everywhere(apis, secret, UNAUTHENTICATED)
        assert stream.result().text == expected_text("long", 300)
    gone: list[Callable[[], object]] = [
        lambda: operator.ask(operator.admin.GetTenant, apb.GetTenantRequest(tenant=tenant)),
        lambda: operator.ask(operator.admin.ListApiKeys, apb.ListApiKeysRequest(tenant=tenant)),
        lambda: operator.ask(operator.policies.GetPolicy, ppb.GetPolicyRequest(tenant=tenant)),
    ]
    for call in gone:
        assert refused(call).reason == "TENANT_NOT_FOUND"
    operator.make_tenant(tenant)
    assert not operator.ask(operator.admin.ListApiKeys, apb.ListApiKeysRequest(tenant=tenant)).keys
    policy = operator.ask(operator.policies.GetPolicy, ppb.GetPolicyRequest(tenant=tenant)).policy
    assert (policy.version, policy.document) == (0, "{}\n")
    assert not operator.ask(operator.policies.ListPolicyVersions, ppb.ListPolicyVersionsRequest(tenant=tenant)).versions
    read = ppb.GetPolicyRequest(tenant=tenant, version=1)
    assert refused(lambda: operator.ask(operator.policies.GetPolicy, read)).code is grpc.StatusCode.NOT_FOUND
    shadows = ppb.GetShadowPolicyRequest(tenant=tenant)
    assert not operator.ask(operator.policies.GetShadowPolicy, shadows).HasField("shadow")
    again = ppb.PutPolicyRequest(tenant=tenant, document="{}", etag=policy.etag)
    assert operator.ask(operator.policies.PutPolicy, again).policy.version == 3
    everywhere(apis, secret, UNAUTHENTICATED)
    everywhere(apis, operator.make_key(tenant), grpc.StatusCode.OK)
