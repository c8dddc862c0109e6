"""Names become parts of Redis keys: a hostile one is refused wherever it can stand, and leaves no key behind."""

import socket
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from deploy.local.stack import Stack
from tests.process.scripted import ACME, ACME_ADMIN, OPERATOR
from tests.process.test_bad_input import call, status_of
from tests.process.test_scopes import DESCRIPTORS

HOSTILE = ["a:b", "*", "a\n", "\r\nDEL x\r\n", "{0}", "}", "a b", "a/b", "../acme", "ä", "名", "\x00", "%s", "x" * 300]
# Fields that name something.
NAMES = {"tenant", "id", "name", "key", "model", "request_id", "pool", "worker", "models", "model_limits"}

GENERATE = pb.GenerateRequest(model="smollm2", prompt="hi", request_id="r1")
TENANT = apb.Tenant(id="new", models=["smollm2"], quota={"model_limits": {"smollm2": {}}})  # type: ignore[arg-type]
KEY = apb.ApiKey(tenant="acme", name="local", scopes=[apb.SCOPE_INFER], quota={"model_limits": {"smollm2": {}}})  # type: ignore[arg-type]
# A good request of every method that takes a name.
REQUESTS: dict[str, Message] = {
    "Generate": GENERATE,
    "Complete": pb.CompleteRequest(request=GENERATE),
    "Explain": pb.ExplainRequest(request=GENERATE),
    "Resume": pb.ResumeRequest(request_id="r1"),
    "Cancel": pb.CancelRequest(request_id="r1"),
    "ValidatePolicy": ppb.ValidatePolicyRequest(tenant="acme", document="{}"),
    "DiffPolicies": ppb.DiffPoliciesRequest(tenant="acme"),
    "ReplayPolicy": ppb.ReplayPolicyRequest(tenant="acme", rows=[ppb.ReplayRow(model="smollm2", text="hi")]),
    "GetPolicy": ppb.GetPolicyRequest(tenant="acme"),
    "PutPolicy": ppb.PutPolicyRequest(tenant="acme", document="{}"),
    "ListPolicyVersions": ppb.ListPolicyVersionsRequest(tenant="acme"),
    "RollbackPolicy": ppb.RollbackPolicyRequest(tenant="acme", version=1),
    "GetShadowPolicy": ppb.GetShadowPolicyRequest(tenant="acme"),
    "SetShadowPolicy": ppb.SetShadowPolicyRequest(tenant="acme", document="{}"),
    "ClearShadowPolicy": ppb.ClearShadowPolicyRequest(tenant="acme"),
    "ListGates": ppb.ListGatesRequest(model="smollm2"),
    "SetGate": ppb.SetGateRequest(model="smollm2", task=pb.TASK_CODE, state=pb.GATE_STATE_FAILED),
    "CreateTenant": apb.CreateTenantRequest(tenant=TENANT),
    "GetTenant": apb.GetTenantRequest(tenant="acme"),
    "UpdateTenant": apb.UpdateTenantRequest(tenant=TENANT),
    "DeleteTenant": apb.DeleteTenantRequest(tenant="acme"),
    "CreateApiKey": apb.CreateApiKeyRequest(tenant="acme", name="new", quota=KEY.quota),
    "ListApiKeys": apb.ListApiKeysRequest(tenant="acme"),
    "UpdateApiKey": apb.UpdateApiKeyRequest(key=KEY),
    "RotateApiKey": apb.RotateApiKeyRequest(tenant="acme", name="local"),
    "RevokeApiKey": apb.RevokeApiKeyRequest(tenant="acme", name="local"),
    "GetQuotaState": apb.GetQuotaStateRequest(tenant="acme", key="local"),
    "GetUsage": apb.GetUsageRequest(tenant="acme"),
    "ListWorkers": apb.ListWorkersRequest(pool="smollm2/fp8"),
    "SetWorkerState": apb.SetWorkerStateRequest(pool="smollm2/fp8", worker="w", state=apb.WORKER_STATE_DRAINING),
    "ListDeadLetters": apb.ListDeadLettersRequest(tenant="acme"),
    "ReplayDeadLetter": apb.ReplayDeadLetterRequest(tenant="acme", request_id="r1"),
    "PurgeDeadLetter": apb.PurgeDeadLetterRequest(tenant="acme", request_id="r1"),
    "ListAuditEvents": apb.ListAuditEventsRequest(tenant="acme"),
}
PATHS = {method.name: path for path, method in DESCRIPTORS.items()}


def takes_names(message: Descriptor) -> bool:
    return any(
        field.name in NAMES or (field.message_type is not None and takes_names(field.message_type))
        for field in message.fields
    )


def with_each_name_replaced(message: Message, name: str) -> Iterator[tuple[str, Message]]:
    """The message with one of its names replaced, for each of them; and where that is."""
    for field, value in message.ListFields():
        copy = type(message)()
        copy.CopyFrom(message)
        if field.name == "model_limits":
            getattr(copy, field.name)[name].queued_requests = 1
            yield field.name, copy
        elif field.name == "models":
            getattr(copy, field.name)[0] = name
            yield field.name, copy
        elif field.message_type is None:
            if field.name in NAMES:
                setattr(copy, field.name, name)
                yield field.name, copy
        elif not field.is_repeated:
            for path, inner in with_each_name_replaced(value, name):
                getattr(copy, field.name).CopyFrom(inner)
                yield f"{field.name}.{path}", copy
        else:
            for path, inner in with_each_name_replaced(value[0], name):
                getattr(copy, field.name)[0].CopyFrom(inner)
                yield f"{field.name}[0].{path}", copy


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(engine="scripted", engine_options='{"token_ms": 1}') as stack:
        yield stack.start()


@pytest.fixture(scope="module")
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.target) as channel:
        yield channel


def redis_keys(stack: Stack) -> set[bytes]:
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(10)
        server.connect(str(stack.server.socket))
        server.sendall(b"KEYS *\r\n")
        reply = server.makefile("rb")
        count = int(reply.readline()[1:])
        return {reply.read(int(reply.readline()[1:]) + 2) for _ in range(count)}


def test_every_method_that_takes_a_name_is_tried() -> None:
    found = {method.name for method in DESCRIPTORS.values() if takes_names(method.input_type)}
    assert found == set(REQUESTS)


@pytest.mark.parametrize("method", REQUESTS)
def test_hostile_names_are_refused_and_leave_nothing(stack: Stack, channel: grpc.Channel, method: str) -> None:
    keys = [ACME] if "Inference" in PATHS[method] else [OPERATOR, ACME_ADMIN]
    before = redis_keys(stack)
    tried = 0
    for name in HOSTILE:
        for path, request in with_each_name_replaced(REQUESTS[method], name):
            for key in keys:
                with pytest.raises(grpc.RpcError) as caught:
                    call(channel, PATHS[method], request.SerializeToString(), key)
                code, status = status_of(caught.value)
                allowed = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
                if key == ACME_ADMIN:
                    allowed.add(grpc.StatusCode.PERMISSION_DENIED)
                assert code in allowed, (path, name, status)
                tried += 1
    assert tried >= len(HOSTILE) * len(keys)
    assert redis_keys(stack) == before
