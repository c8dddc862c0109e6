"""Every method of every service with every kind of key: what the scope allows, and nothing else."""

from collections.abc import Iterator

import grpc
import pytest

from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from deploy.local.stack import Stack
from tests.process.scripted import ACME, ACME_ADMIN, GLOBEX, OPERATOR
from tests.process.test_bad_input import METHODS, call, status_of

INFER = {"Generate", "Complete", "Resume", "Cancel"}
READ = {
    *("Explain", "ListModels", "ListGates"),
    *("ValidatePolicy", "DiffPolicies", "ReplayPolicy", "GetPolicy", "ListPolicyVersions", "GetShadowPolicy"),
}
ADMIN = {"PutPolicy", "RollbackPolicy", "SetShadowPolicy", "ClearShadowPolicy"}
OPERATE = {"SetGate"}
MAY = {ACME: INFER | READ, ACME_ADMIN: READ | ADMIN, OPERATOR: READ | ADMIN | OPERATE}


@pytest.fixture(scope="module")
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.target) as channel:
        yield channel


def missing_scope(channel: grpc.Channel, method: str, body: bytes, key: str) -> bool:
    """Whether the call was refused for its scope; other errors mean that it got past that."""
    try:
        call(channel, method, body, key)
    except grpc.RpcError as error:
        code, status = status_of(error)
        assert code is not grpc.StatusCode.INTERNAL, status
        assert code is not grpc.StatusCode.UNAUTHENTICATED, status
        refused = any(b"SCOPE_MISSING" in detail.value for detail in status.details)
        assert refused == (code is grpc.StatusCode.PERMISSION_DENIED), status
        return refused
    return False


def test_the_table_knows_every_method() -> None:
    assert {method.rpartition("/")[2] for method in METHODS} == INFER | READ | ADMIN | OPERATE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("key", MAY)
def test_each_method_needs_its_scope(channel: grpc.Channel, method: str, key: str) -> None:
    # A tenant that does not exist keeps the calls that are let through from changing anything.
    body = ppb.GetPolicyRequest(tenant="no-such-tenant").SerializeToString()
    assert missing_scope(channel, method, body, key) == (method.rpartition("/")[2] not in MAY[key])


@pytest.mark.parametrize("method", [m for m in METHODS if "PolicyService" in m and "Gate" not in m])
@pytest.mark.parametrize("key", [ACME, ACME_ADMIN, GLOBEX, OPERATOR])
def test_another_tenant_is_not_found(channel: grpc.Channel, method: str, key: str) -> None:
    """The same for one that exists as for one that does not."""
    others = ["no-such", "globex" if key in (ACME, ACME_ADMIN) else "acme", "../acme", "*"]
    for tenant in others if key != OPERATOR else ["no-such", "*", ""]:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, method, ppb.GetPolicyRequest(tenant=tenant).SerializeToString(), key)
        code, status = status_of(caught.value)
        if code is not grpc.StatusCode.PERMISSION_DENIED:
            assert code is (grpc.StatusCode.NOT_FOUND if tenant else grpc.StatusCode.INVALID_ARGUMENT), status


def test_an_operator_generates_nothing(channel: grpc.Channel) -> None:
    request = pb.GenerateRequest(model="smollm2", prompt="hi")
    assert missing_scope(channel, "/bitlane.v1.InferenceService/Generate", request.SerializeToString(), OPERATOR)
