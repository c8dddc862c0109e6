"""Every method of every service with every kind of credential: what it allows, and nothing else."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from deploy.local.stack import Stack
from tests.process.admin_calls import Api, Refused, refused
from tests.process.scripted import ACME, OPERATOR
from tests.process.test_bad_input import METHODS, call

INFER = {"Generate", "Complete", "Resume", "Cancel"}
READ = {
    *("Explain", "ListModels", "ListGates"),
    *("ValidatePolicy", "DiffPolicies", "ReplayPolicy", "GetPolicy", "ListPolicyVersions", "GetShadowPolicy"),
    *("GetTenant", "ListTenants", "GetQuotaState", "GetUsage"),
}
ADMIN = {
    *("PutPolicy", "RollbackPolicy", "SetShadowPolicy", "ClearShadowPolicy"),
    *("CreateApiKey", "ListApiKeys", "UpdateApiKey", "RotateApiKey", "RevokeApiKey"),
    *("ListDeadLetters", "ReplayDeadLetter", "PurgeDeadLetter", "ListAuditEvents"),
}
OPERATE = {
    *("SetGate", "CreateTenant", "UpdateTenant", "DeleteTenant", "ListPools", "ListWorkers", "SetWorkerState"),
}
MAY = {
    "infer": INFER,
    "read": READ,
    "admin": ADMIN,
    "operator": READ | ADMIN | OPERATE,
    "operator's reader": READ,
}
# Whatever is wrong with a credential is told in the same words.
WORDS = "a valid API key is needed: send the metadata `authorization: Bearer bl_...`"
UNKNOWN = "bl_" + "A" * 43
BAD: dict[str, tuple[tuple[str, str], ...]] = {
    "none": (),
    "empty": (("authorization", ""),),
    "no key": (("authorization", "Bearer "),),
    "no scheme": (("authorization", ACME),),
    "another scheme": (("authorization", f"Basic {ACME}"),),
    "two": (("authorization", f"Bearer {ACME}"), ("authorization", f"Bearer {OPERATOR}")),
    "unknown": (("authorization", f"Bearer {UNKNOWN}"),),
    "with a space": (("authorization", f"Bearer {ACME} "),),
    "upper case": (("authorization", f"Bearer {ACME.upper()}"),),
    "its hash": (("authorization", "Bearer 414d046a9a45aabb76090b13a716f63724e8c93145dd9d5236ca5a44e82caa77"),),
    "another header": (("x-api-key", ACME), ("x-tenant", "acme")),
    "revoked": (),
    "expired": (),
    "of a deleted tenant": (),
    "rotated away": (),
}
SERVICES = [file.services_by_name.values() for file in (pb.DESCRIPTOR, ppb.DESCRIPTOR, apb.DESCRIPTOR)]
DESCRIPTORS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for services in SERVICES
    for service in services
    for method in service.methods
}


@dataclass(frozen=True)
class World:
    """A stack with keys of every kind."""

    api: Api
    keys: dict[str, str]  # by the names of MAY, and further ones
    bad: dict[str, tuple[tuple[str, str], ...]]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        Stack(engine="scripted", engine_options='{"token_ms": 1}') as stack,
        grpc.insecure_channel(stack.start().target) as channel,
    ):
        api = Api(channel)
        expired = api.make_key("acme", "expired", expires_at=Timestamp(seconds=int(time.time()) + 2))
        keys = {
            "infer": api.make_key("acme", "infer", scopes=[apb.SCOPE_INFER]),
            "read": api.make_key("acme", "read", scopes=[apb.SCOPE_READ]),
            "admin": api.make_key("acme", "all-but-infer", scopes=[apb.SCOPE_ADMIN]),
            "operator": OPERATOR,
            "operator's reader": api.make_key("", "reader"),
        }
        every = [apb.SCOPE_INFER, apb.SCOPE_READ, apb.SCOPE_ADMIN]
        for tenant in ("suspended", "deleted", "outside"):
            api.make_tenant(tenant)
            keys[tenant] = api.make_key(tenant, scopes=every)
        suspended = apb.Tenant(id="suspended", state=apb.TENANT_STATE_SUSPENDED)
        api.ask(api.admin.UpdateTenant, apb.UpdateTenantRequest(tenant=suspended))
        api.ask(api.admin.DeleteTenant, apb.DeleteTenantRequest(tenant="deleted"))
        revoked, rotated = api.make_key("acme", "revoked"), api.make_key("acme", "rotated")
        api.ask(api.admin.RevokeApiKey, apb.RevokeApiKeyRequest(tenant="acme", name="revoked"))
        rotate = apb.RotateApiKeyRequest(tenant="acme", name="rotated", overlap={"seconds": 0})  # type: ignore[arg-type]
        api.ask(api.admin.RotateApiKey, rotate)
        bad = dict(BAD)
        for name, key in (
            ("revoked", revoked),
            ("expired", expired),
            ("of a deleted tenant", keys.pop("deleted")),
            ("rotated away", rotated),
        ):
            bad[name] = (("authorization", f"Bearer {key}"),)
        time.sleep(2.0)  # until the expired one is
        yield World(api, keys, bad)


def answer(world: World, method: str, body: bytes, metadata: tuple[tuple[str, str], ...]) -> Refused | None:
    """How the method refused it; None when it did not."""
    try:
        call(world.api.channel, method, body, None, metadata)
    except grpc.RpcError:
        return refused(lambda: call(world.api.channel, method, body, None, metadata))
    return None


def with_key(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def test_the_table_knows_every_method() -> None:
    assert set(DESCRIPTORS) == set(METHODS)
    sets = [INFER, READ, ADMIN, OPERATE]
    assert {method.name for method in DESCRIPTORS.values()} == set[str]().union(*sets)
    assert sum(map(len, sets)) == len(DESCRIPTORS)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_without_a_valid_credential(world: World, method: str) -> None:
    for name, metadata in world.bad.items():
        found = answer(world, method, b"", metadata)
        assert found is not None, name
        assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID"), name
        assert found.message == WORDS, name


@pytest.mark.parametrize("method", METHODS)
def test_no_method_for_a_suspended_tenant(world: World, method: str) -> None:
    found = answer(world, method, b"", with_key(world.keys["suspended"]))
    assert found is not None
    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "TENANT_SUSPENDED")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("key", MAY)
def test_each_method_needs_its_scope(world: World, method: str, key: str) -> None:
    # A tenant that does not exist keeps the calls that are let through from changing anything.
    body = ppb.GetPolicyRequest(tenant="no-such-tenant").SerializeToString()
    found = answer(world, method, body, with_key(world.keys[key]))
    if DESCRIPTORS[method].name not in MAY[key]:
        assert found is not None
        assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
    elif found is not None:
        assert found.code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}, found


def about(method: MethodDescriptor, tenant: str) -> Message | None:
    """A request about things of a tenant; None for a method that names no tenant."""
    message = GetMessageClass(method.input_type)()
    fields = method.input_type.fields_by_name
    if "key" in fields and fields["key"].message_type:
        message.key.tenant, message.key.name = tenant, "infer"  # type: ignore[attr-defined]
        message.key.scopes.append(apb.SCOPE_INFER)  # type: ignore[attr-defined]
        return message
    if "tenant" not in fields or fields["tenant"].message_type:
        return None
    message.tenant = tenant  # type: ignore[attr-defined]
    for field, value in (("name", "infer"), ("request_id", "theirs"), ("document", "{}"), ("version", 1)):
        if field in fields:
            setattr(message, field, value)
    return message


ABOUT_TENANTS = [name for name, method in DESCRIPTORS.items() if about(method, "") is not None]


def test_most_methods_are_about_tenants() -> None:
    assert len(ABOUT_TENANTS) == 23


@pytest.mark.parametrize("method", ABOUT_TENANTS)
def test_another_tenants_are_as_unknown_as_what_never_was(world: World, method: str) -> None:
    def found(tenant: str) -> Refused:
        message = about(DESCRIPTORS[method], tenant)
        assert message is not None
        outcome = answer(world, method, message.SerializeToString(), with_key(world.keys["outside"]))
        assert outcome is not None
        return outcome

    before = _state(world)
    theirs, nobodys = found("acme"), found("zzzz")
    if DESCRIPTORS[method].name in OPERATE:
        assert theirs == nobodys
        assert theirs.reason == "SCOPE_MISSING"
    else:
        assert (theirs.code, theirs.reason) == (grpc.StatusCode.NOT_FOUND, "TENANT_NOT_FOUND")
        assert theirs.message.replace("acme", "zzzz") == nobodys.message
        for hostile in ("../acme", "*", "acme\n", "ACME", "a" * 300, "ä"):
            assert found(hostile).code is grpc.StatusCode.NOT_FOUND
    assert _state(world) == before


def _state(world: World) -> tuple[bytes, ...]:
    """What the outsider could have changed."""
    api = world.api
    answers: list[Message] = [
        api.ask(api.admin.GetTenant, apb.GetTenantRequest(tenant="acme")),
        api.ask(api.admin.ListApiKeys, apb.ListApiKeysRequest(tenant="acme")),
        api.ask(api.policies.GetPolicy, ppb.GetPolicyRequest(tenant="acme")),
        api.ask(api.policies.GetShadowPolicy, ppb.GetShadowPolicyRequest(tenant="acme")),
        api.ask(api.admin.ListAuditEvents, apb.ListAuditEventsRequest(page_size=1000)),
    ]
    return tuple(message.SerializeToString() for message in answers)


def test_requests_of_another_tenant_are_unknown(world: World) -> None:
    body = pb.GenerateRequest(
        model="smollm2", prompt="hi", request_id="theirs", sampling=pb.SamplingParams(max_tokens=2)
    )
    assert len(call(world.api.channel, "/bitlane.v1.InferenceService/Generate", body.SerializeToString(), ACME)) > 1
    calls: list[Callable[[str], tuple[str, bytes]]] = [
        lambda name: ("Resume", pb.ResumeRequest(request_id=name).SerializeToString()),
        lambda name: ("Cancel", pb.CancelRequest(request_id=name).SerializeToString()),
    ]
    for make in calls:
        found: list[Refused] = []
        for name in ("theirs", "nobody"):
            method, request = make(name)
            key = with_key(world.keys["outside"])
            outcome = answer(world, f"/bitlane.v1.InferenceService/{method}", request, key)
            assert outcome is not None
            found.append(outcome)
        assert found[0].code is found[1].code is grpc.StatusCode.NOT_FOUND
        assert found[0].message.replace("theirs", "nobody") == found[1].message


def test_an_operator_names_the_tenant(world: World) -> None:
    for method in ABOUT_TENANTS:
        if "PolicyService" in method:
            found = answer(world, method, b"", with_key(OPERATOR))
            assert found is not None
            assert found.fields == ("tenant",), method
