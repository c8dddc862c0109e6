"""Tenants and keys at run time, on two routers: what is changed at one acts on both within a second."""

import hashlib
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
from tests.process.admin_calls import Api, Refused, code_of, refused
from tests.process.scripted import ACME, ACME_ADMIN, expected_text

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


def generate(api: Api) -> str:
    """What a key may do with scope infer."""
    request = pb.GenerateRequest(model="smollm2", prompt="hi", sampling=pb.SamplingParams(max_tokens=3))
    return api.ask(api.inference.Complete, pb.CompleteRequest(request=request)).text


def everywhere(apis: tuple[Api, Api], secret: str, code: grpc.StatusCode) -> None:
    """Waits until the key is answered so by both routers, within the promised time."""
    began = time.monotonic()
    for api in apis:
        while (found := code_of(lambda api=api: generate(api.with_key(secret)))) is not code:
            assert time.monotonic() - began < SOON_S, f"{found} instead of {code}"
            time.sleep(0.02)


def key_of(api: Api, tenant: str, name: str = "test") -> apb.ApiKey:
    keys = api.ask(api.admin.ListApiKeys, apb.ListApiKeysRequest(tenant=tenant)).keys
    return next(key for key in keys if key.name == name)


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
    rotate = apb.RotateApiKeyRequest(tenant=tenant, name="test", overlap=Duration(seconds=3))
    answer = operator.ask(operator.admin.RotateApiKey, rotate)
    assert answer.key.old_secret_expires_at.seconds > answer.key.rotated_at.seconds
    everywhere(apis, answer.secret, grpc.StatusCode.OK)
    assert code_of(lambda: generate(apis[1].with_key(old))) is grpc.StatusCode.OK
    time.sleep(3.0)
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
    ends = Timestamp(seconds=int(time.time()) + 3)
    secret = operator.make_key(tenant, expires_at=ends)
    assert key_of(operator, tenant).expires_at == ends
    everywhere(apis, secret, grpc.StatusCode.OK)
    time.sleep(3.0)
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


def test_a_lost_update_is_refused(operator: Api, tenant: str) -> None:
    operator.make_key(tenant)
    first = operator.ask(operator.admin.GetTenant, apb.GetTenantRequest(tenant=tenant)).tenant
    first.weight = 5
    second = operator.ask(operator.admin.UpdateTenant, apb.UpdateTenantRequest(tenant=first)).tenant
    assert (second.weight, second.created_at) == (5, first.created_at)
    key = key_of(operator, tenant)
    newer = operator.ask(operator.admin.UpdateApiKey, apb.UpdateApiKeyRequest(key=key)).key
    delete = apb.DeleteTenantRequest(tenant=tenant, etag=first.etag)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: operator.ask(operator.admin.UpdateTenant, apb.UpdateTenantRequest(tenant=first)), second.etag),
        (lambda: operator.ask(operator.admin.DeleteTenant, delete), second.etag),
        (lambda: operator.ask(operator.admin.UpdateApiKey, apb.UpdateApiKeyRequest(key=key)), newer.etag),
    ]
    for call, current in calls:
        lost = refused(call)
        assert (lost.code, lost.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert lost.metadata["current_etag"] == current
    # Without an etag whatever there is is replaced.
    first.etag = ""
    operator.ask(operator.admin.UpdateTenant, apb.UpdateTenantRequest(tenant=first))


GRANTS: list[tuple[list[apb.Scope.ValueType], list[apb.Scope.ValueType], str]] = [
    ([apb.SCOPE_ADMIN], [apb.SCOPE_INFER], ""),
    ([apb.SCOPE_ADMIN], [apb.SCOPE_ADMIN], ""),
    ([apb.SCOPE_ADMIN], [apb.SCOPE_READ], "SCOPE_MISSING"),
    ([apb.SCOPE_ADMIN], [], "SCOPE_MISSING"),  # infer and read
    ([apb.SCOPE_ADMIN, apb.SCOPE_READ], [], ""),
    ([apb.SCOPE_ADMIN, apb.SCOPE_READ], [apb.SCOPE_OPERATE], "FIELD_INVALID"),
    ([apb.SCOPE_INFER, apb.SCOPE_READ], [apb.SCOPE_INFER], "SCOPE_MISSING"),
]


@pytest.mark.parametrize(("has", "gives", "reason"), GRANTS)
def test_a_key_gives_away_what_it_has(
    operator: Api,
    tenant: str,
    has: list[apb.Scope.ValueType],
    gives: list[apb.Scope.ValueType],
    reason: str,
) -> None:
    giver = operator.with_key(operator.make_key(tenant, "giver", scopes=has))

    def outcome(call: Callable[[], object]) -> str:
        return refused(call).reason if code_of(call) is not grpc.StatusCode.OK else ""

    assert outcome(lambda: giver.make_key("", f"given-{next(_numbers)}", scopes=gives)) == reason
    operator.make_key(tenant, "other", scopes=[apb.SCOPE_INFER])
    update = apb.UpdateApiKeyRequest(key=apb.ApiKey(name="other", scopes=gives or [apb.SCOPE_INFER, apb.SCOPE_READ]))
    assert outcome(lambda: giver.ask(giver.admin.UpdateApiKey, update)) == reason
    # A new secret gives away what the key may do.
    if apb.SCOPE_OPERATE not in gives:
        operator.make_key(tenant, "third", scopes=gives)
        rotate = apb.RotateApiKeyRequest(name="third")
        assert outcome(lambda: giver.ask(giver.admin.RotateApiKey, rotate)) == reason


def test_nobody_gives_a_tenant_the_service(operator: Api, tenant: str) -> None:
    refusal = refused(lambda: operator.make_key(tenant, scopes=[apb.SCOPE_READ, apb.SCOPE_OPERATE]))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("scopes[1]",))


def test_operators_keys(apis: tuple[Api, Api], operator: Api, tenant: str) -> None:
    reader = apis[0].with_key(operator.make_key("", "reader"))
    assert reader.ask(reader.admin.GetTenant, apb.GetTenantRequest(tenant=tenant)).tenant.id == tenant
    assert refused(lambda: reader.make_tenant("other")).reason == "SCOPE_MISSING"
    assert refused(lambda: reader.make_key("", "more", scopes=[apb.SCOPE_READ])).reason == "SCOPE_MISSING"
    assert refused(lambda: operator.make_key("", "bad", scopes=[apb.SCOPE_INFER])).fields == ("scopes[0]",)
    bounded = apb.Quota(limits=apb.Limits(requests_per_minute=1))
    assert refused(lambda: operator.make_key("", "bad", quota=bounded)).fields == ("quota",)
    second = operator.with_key(operator.make_key("", "second", scopes=[apb.SCOPE_OPERATE, apb.SCOPE_ADMIN]))
    second.make_tenant(f"{tenant}-2")
    assert operator.events(f"{tenant}-2")[0].actor == "operator/second"
    assert refused(lambda: generate(second)).reason == "SCOPE_MISSING"
    names = [key.name for key in operator.ask(operator.admin.ListApiKeys, apb.ListApiKeysRequest()).keys]
    assert names == ["reader", "second"]
    # The configuration's operator is no document, and nobody takes its name.
    assert refused(lambda: operator.make_key("", "local")).code is grpc.StatusCode.ALREADY_EXISTS
    for name in names:
        operator.ask(operator.admin.RevokeApiKey, apb.RevokeApiKeyRequest(name=name))
    assert code_of(lambda: reader.ask(reader.admin.ListTenants, apb.ListTenantsRequest())) is UNAUTHENTICATED


def test_a_secret_from_elsewhere_is_for_operators_and_once(operator: Api, tenant: str) -> None:
    secret = f"elsewhere-{tenant}"
    sha256 = hashlib.sha256(secret.encode()).hexdigest()
    admin = operator.with_key(operator.make_key(tenant, "admin", scopes=[apb.SCOPE_READ, apb.SCOPE_ADMIN]))
    assert refused(lambda: admin.make_key("", "mine", secret_sha256=sha256)).reason == "SCOPE_MISSING"
    assert operator.make_key(tenant, "moved", secret_sha256=sha256) == ""
    assert generate(operator.with_key(secret)) == expected_text("hi", 3)
    assert refused(lambda: operator.make_key(tenant, "twice", secret_sha256=sha256)).fields == ("secret_sha256",)
    for taken in (ACME, "bl_local_admin"):
        theirs = hashlib.sha256(taken.encode()).hexdigest()
        assert refused(lambda s=theirs: operator.make_key(tenant, "twice", secret_sha256=s)).code is (
            grpc.StatusCode.INVALID_ARGUMENT
        )
    assert refused(lambda: operator.make_key(tenant, "bad", secret_sha256="A" * 64)).fields == ("secret_sha256",)


def test_another_tenant_is_as_unknown_as_one_that_never_was(operator: Api, tenant: str) -> None:
    admin = operator.with_key(operator.make_key(tenant, "admin", scopes=[apb.SCOPE_READ, apb.SCOPE_ADMIN]))

    def answers(named: str) -> list[Refused]:
        calls: list[Callable[[], object]] = [
            lambda: admin.ask(admin.admin.GetTenant, apb.GetTenantRequest(tenant=named)),
            lambda: admin.make_key(named, "x"),
            lambda: admin.ask(admin.admin.ListApiKeys, apb.ListApiKeysRequest(tenant=named)),
            lambda: admin.ask(admin.admin.RevokeApiKey, apb.RevokeApiKeyRequest(tenant=named, name="local")),
            lambda: admin.ask(admin.admin.GetQuotaState, apb.GetQuotaStateRequest(tenant=named)),
            lambda: admin.ask(admin.admin.GetUsage, apb.GetUsageRequest(tenant=named)),
            lambda: admin.ask(admin.admin.ListDeadLetters, apb.ListDeadLettersRequest(tenant=named)),
            lambda: admin.ask(admin.admin.ReplayDeadLetter, apb.ReplayDeadLetterRequest(tenant=named, request_id="x")),
            lambda: admin.ask(admin.admin.PurgeDeadLetter, apb.PurgeDeadLetterRequest(tenant=named, request_id="x")),
            lambda: admin.events(named),
            lambda: admin.ask(admin.policies.GetPolicy, ppb.GetPolicyRequest(tenant=named)),
        ]
        return [refused(call) for call in calls]

    for one, other in zip(answers("acme"), answers("zzzz"), strict=True):
        assert one.code is other.code is grpc.StatusCode.NOT_FOUND
        assert (one.reason, one.message.replace("acme", "zzzz")) == (other.reason, other.message)


def test_the_ceiling_lowers_the_priority_before_anything_is_decided(operator: Api, tenant: str) -> None:
    policy = "rules: [{name: urgent, match: {priority: interactive}, use: FP8}]\nallow_uncalibrated_fp4: true\n"
    operator.ask(operator.policies.PutPolicy, ppb.PutPolicyRequest(tenant=tenant, document=policy))
    key = operator.with_key(operator.make_key(tenant))

    def explain() -> pb.ExplainResponse:
        request = pb.GenerateRequest(model="smollm2", prompt="hi", task=pb.TASK_CHAT, priority=pb.PRIORITY_INTERACTIVE)
        return key.ask(key.inference.Explain, pb.ExplainRequest(request=request))

    assert explain().decision.rule == "urgent"
    update = apb.Tenant(id=tenant, priority_ceiling=pb.PRIORITY_STANDARD)
    operator.ask(operator.admin.UpdateTenant, apb.UpdateTenantRequest(tenant=update))
    lowered = explain()
    assert (lowered.decision.rule, lowered.decision.precision) == ("", pb.PRECISION_FP4)
    assert (lowered.steps[0].name, lowered.steps[0].detail) == (
        "priority",
        "interactive is lowered to standard, the tenant's ceiling",
    )


def test_fields_are_checked_and_named(operator: Api, tenant: str) -> None:
    limits = apb.Limits(requests_per_minute=-2, day_budget_nanos=1 << 60)
    bad = apb.Tenant(
        id="Bad Name",
        display_name="x" * 201,
        state=9,  # type: ignore[arg-type]  # out of range
        weight=float("nan"),
        models=["smollm2", "gpt"],
        priority_ceiling=9,  # type: ignore[arg-type]
        quota=apb.Quota(limits=limits, model_limits={"gpt": limits, "smollm2": limits}),
    )
    violated = refused(lambda: operator.ask(operator.admin.CreateTenant, apb.CreateTenantRequest(tenant=bad)))
    assert violated.code is grpc.StatusCode.INVALID_ARGUMENT
    assert violated.fields == (
        *("tenant.id", "tenant.display_name", "tenant.state", "tenant.weight", "tenant.priority_ceiling"),
        *("tenant.models[1]", "tenant.quota.limits.requests_per_minute", "tenant.quota.limits.day_budget_nanos"),
        *("tenant.quota.model_limits", "tenant.quota.model_limits[smollm2].requests_per_minute"),
        "tenant.quota.model_limits[smollm2].day_budget_nanos",
    )
    nowhere = apb.UpdateTenantRequest(tenant=apb.Tenant(id="nowhere"))
    assert refused(lambda: operator.ask(operator.admin.UpdateTenant, nowhere)).reason == "TENANT_NOT_FOUND"
    no_key = apb.RevokeApiKeyRequest(tenant=tenant, name="no-such")
    assert refused(lambda: operator.ask(operator.admin.RevokeApiKey, no_key)).reason == "KEY_NOT_FOUND"
    unnamed = refused(lambda: operator.ask(operator.admin.GetTenant, apb.GetTenantRequest()))
    assert unnamed.fields == ("tenant",)
    no_scopes = apb.UpdateApiKeyRequest(key=apb.ApiKey(name="admin"))
    acme = operator.with_key(ACME_ADMIN)
    assert refused(lambda: acme.ask(acme.admin.UpdateApiKey, no_scopes)).fields == ("key.scopes",)
