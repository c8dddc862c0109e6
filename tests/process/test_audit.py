"""The audit log: every change is there, once, with who made it; nothing else is, and no secret."""

import hashlib
import re
from collections.abc import Callable, Iterator

import grpc
import pytest

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from deploy.local.stack import Stack
from tests.process.admin_calls import Api, code_of, refused
from tests.process.scripted import ACME
from tests.process.test_scopes import DESCRIPTORS

# What changes nothing starts so.
READS = re.compile(r"Get|List|Explain|Validate|Diff|ReplayPolicy|Generate|Complete|Resume|Cancel")
CHANGES = {method.name for method in DESCRIPTORS.values() if not READS.match(method.name)}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(engine="scripted", engine_options='{"token_ms": 1, "fail_on": "trouble"}') as stack:
        yield stack.start()


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Iterator[Api]:
    with grpc.insecure_channel(stack.target) as channel:
        yield Api(channel)


def dead_letter(operator: Api, request_id: str) -> None:
    """Makes one of acme's requests fail on every attempt."""
    acme = operator.with_key(ACME)
    request = pb.GenerateRequest(model="smollm2", prompt="trouble: tell-nobody", request_id=request_id)
    assert refused(lambda: acme.ask(acme.inference.Complete, pb.CompleteRequest(request=request))).reason == (
        "ATTEMPTS_EXHAUSTED"
    )


def changes(api: Api, tenant: str, secrets: list[str]) -> list[tuple[str, Callable[[], object], str]]:
    """Each change of the API, with the resource that it is about. Secrets that come up are put into the list."""
    admin, policies = api.admin, api.policies
    settings = apb.Tenant(id=tenant, display_name="Tenant under audit")
    key = apb.ApiKey(tenant=tenant, name="ci", scopes=[apb.SCOPE_INFER], quota={"limits": {"queued_requests": 7}})  # type: ignore[arg-type]
    gate = ppb.SetGateRequest(model="smollm2", task=pb.TASK_CODE, state=pb.GATE_STATE_FAILED)
    worker = apb.SetWorkerStateRequest(pool="smollm2/fp4", worker="smollm2-fp4-1", state=apb.WORKER_STATE_DRAINING)

    def rotate() -> None:
        request = apb.RotateApiKeyRequest(tenant=tenant, name="ci")
        secrets.append(api.ask(admin.RotateApiKey, request).secret)

    return [
        ("CreateTenant", lambda: api.ask(admin.CreateTenant, apb.CreateTenantRequest(tenant=settings)), "tenant/{}"),
        ("UpdateTenant", lambda: api.ask(admin.UpdateTenant, apb.UpdateTenantRequest(tenant=settings)), "tenant/{}"),
        ("CreateApiKey", lambda: secrets.append(api.make_key(tenant, "ci")), "key/{}/ci"),
        ("UpdateApiKey", lambda: api.ask(admin.UpdateApiKey, apb.UpdateApiKeyRequest(key=key)), "key/{}/ci"),
        ("RotateApiKey", rotate, "key/{}/ci"),
        (
            "RevokeApiKey",
            lambda: api.ask(admin.RevokeApiKey, apb.RevokeApiKeyRequest(tenant=tenant, name="ci")),
            "key/{}/ci",
        ),
        (
            "PutPolicy",
            lambda: api.ask(policies.PutPolicy, ppb.PutPolicyRequest(tenant=tenant, document="{}")),
            "policy/{}",
        ),
        (
            "RollbackPolicy",
            lambda: api.ask(policies.RollbackPolicy, ppb.RollbackPolicyRequest(tenant=tenant, version=1)),
            "policy/{}",
        ),
        (
            "SetShadowPolicy",
            lambda: api.ask(policies.SetShadowPolicy, ppb.SetShadowPolicyRequest(tenant=tenant, document="{}")),
            "shadow/{}",
        ),
        (
            "ClearShadowPolicy",
            lambda: api.ask(policies.ClearShadowPolicy, ppb.ClearShadowPolicyRequest(tenant=tenant)),
            "shadow/{}",
        ),
        ("SetGate", lambda: api.ask(policies.SetGate, gate), "gate/smollm2/none/code"),
        ("SetWorkerState", lambda: api.ask(admin.SetWorkerState, worker), "worker/smollm2/fp4/smollm2-fp4-1"),
        (
            "ReplayDeadLetter",
            lambda: api.ask(admin.ReplayDeadLetter, apb.ReplayDeadLetterRequest(tenant="acme", request_id="dead-1")),
            "dead-letter/acme/dead-1",
        ),
        (
            "PurgeDeadLetter",
            lambda: api.ask(admin.PurgeDeadLetter, apb.PurgeDeadLetterRequest(tenant="acme", request_id="dead-2")),
            "dead-letter/acme/dead-2",
        ),
        ("DeleteTenant", lambda: api.ask(admin.DeleteTenant, apb.DeleteTenantRequest(tenant=tenant)), "tenant/{}"),
    ]


def test_every_change_is_there_once_with_its_author(operator: Api) -> None:
    dead_letter(operator, "dead-1")
    dead_letter(operator, "dead-2")
    secrets: list[str] = []
    steps = changes(operator, "audited", secrets)
    # Enumerated from the services, so that no change can be forgotten.
    assert {action for action, _, _ in steps} == CHANGES
    for action, change, resource in steps:
        before = operator.events()
        change()
        new = operator.events()[: len(operator.events()) - len(before)]
        event = new[-1]
        assert (event.actor, event.action, event.resource) == ("operator/local", action, resource.format("audited"))
        if action != "DeleteTenant":
            assert len(new) == 1, action
        assert event.time.seconds > 0
    by_resource = {(event.resource, event.action): event for event in operator.events("audited")}
    made = by_resource["tenant/audited", "CreateTenant"]
    assert (made.before, "Tenant under audit" in made.after, made.tenant) == ("", True, "audited")
    updated = by_resource["key/audited/ci", "UpdateApiKey"]
    assert '"read"' in updated.before
    assert '"read"' not in updated.after
    assert '"queued_requests": 7' in updated.after
    # A deletion tells of all that went with it.
    deleted = {event.resource: event for event in operator.events("audited") if event.action == "DeleteTenant"}
    assert set(deleted) == {"tenant/audited", "key/audited/ci", "policy/audited"}
    assert all(event.before and not event.after for event in deleted.values())
    told = str(operator.events())
    for secret in (*secrets, ACME):
        assert secret.startswith("bl_")
        assert secret not in told
        assert hashlib.sha256(secret.encode()).hexdigest() not in told
    assert "tell-nobody" not in told
    assert re.search(r"\b[0-9a-f]{64}\b", told) is None


def test_what_was_refused_is_not_there(operator: Api) -> None:
    operator.make_tenant("refusing")
    reader = operator.with_key(operator.make_key("refusing", "reader", scopes=[apb.SCOPE_READ]))
    stale = apb.Tenant(id="refusing", etag="1-stale")
    before = operator.events()
    tries: list[Callable[[], object]] = [
        lambda: operator.make_tenant("refusing"),
        lambda: operator.make_tenant("Bad Name"),
        lambda: operator.ask(operator.admin.UpdateTenant, apb.UpdateTenantRequest(tenant=stale)),
        lambda: operator.ask(operator.admin.DeleteTenant, apb.DeleteTenantRequest(tenant="nobody")),
        lambda: operator.ask(operator.admin.RevokeApiKey, apb.RevokeApiKeyRequest(tenant="refusing", name="nobody")),
        lambda: operator.ask(operator.policies.PutPolicy, ppb.PutPolicyRequest(tenant="refusing", document="[")),
        lambda: operator.ask(
            operator.admin.SetWorkerState,
            apb.SetWorkerStateRequest(pool="smollm2/fp4", worker="nobody", state=apb.WORKER_STATE_DRAINING),
        ),
        lambda: reader.make_key("", "x"),
        lambda: reader.make_tenant("other"),
    ]
    for attempt in tries:
        assert code_of(attempt) is not grpc.StatusCode.OK
    assert operator.events() == before


def test_a_tenant_sees_its_own(operator: Api) -> None:
    for tenant in ("seeing", "unseen"):
        operator.make_tenant(tenant)
        operator.make_key(tenant)
    admin = operator.with_key(operator.make_key("seeing", "admin", scopes=[apb.SCOPE_ADMIN]))
    admin.make_key("", "made", scopes=[apb.SCOPE_INFER])
    seen = admin.events()
    assert seen == operator.events("seeing") == admin.events("seeing")
    assert {event.tenant for event in seen} == {"seeing"}
    assert [event.actor for event in seen] == ["seeing/admin", *["operator/local"] * 3]
    assert admin.events()[0].resource == "key/seeing/made"


def test_the_log_of_a_deleted_tenant_stays(operator: Api) -> None:
    operator.make_tenant("short-lived")
    operator.ask(operator.admin.DeleteTenant, apb.DeleteTenantRequest(tenant="short-lived"))
    assert [event.action for event in operator.events("short-lived")] == ["DeleteTenant", "CreateTenant"]
    assert refused(lambda: operator.events("never-lived")).reason == "TENANT_NOT_FOUND"
