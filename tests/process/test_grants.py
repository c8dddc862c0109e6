"""Who may change what: etags, scopes that are given away, others' things, ceilings, and fields that are wrong."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import count

import grpc
import pytest

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from deploy.local.stack import Stack
from tests.process.admin_calls import Api, Refused, code_of, generate, key_of, refused
from tests.process.scripted import ACME, ACME_ADMIN, expected_text

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_numbers = count()


@pytest.fixture(scope="module")
def operator() -> Iterator[Api]:
    with (
        Stack(engine="scripted", engine_options='{"token_ms": 1}') as stack,
        grpc.insecure_channel(stack.start().target) as channel,
    ):
        yield Api(channel)


@pytest.fixture
def tenant(operator: Api) -> str:
    """A tenant of the test's own."""
    tenant_id = f"tenant-{next(_numbers)}"
    operator.make_tenant(tenant_id)
    return tenant_id


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


def test_operators_keys(operator: Api, tenant: str) -> None:
    reader = operator.with_key(operator.make_key("", "reader"))
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
