"""The admin and policy API as the generated stubs have it, called with one key; and what a refused call said."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import grpc
import pytest

from bitlane.rpc.v1 import status_pb2
from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1.admin_pb2_grpc import AdminServiceStub
from bitlane.v1.inference_pb2_grpc import InferenceServiceStub
from bitlane.v1.policy_pb2_grpc import PolicyServiceStub
from tests.process.scripted import OPERATOR

Q = TypeVar("Q")
R = TypeVar("R")
TIMEOUT_S = 30.0


class Api:
    """All services with one key."""

    def __init__(self, channel: grpc.Channel, key: str = OPERATOR) -> None:
        self.channel = channel
        self.admin = AdminServiceStub(channel)
        self.policies = PolicyServiceStub(channel)
        self.inference = InferenceServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),)

    def ask(self, method: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q, timeout_s: float = TIMEOUT_S) -> R:
        return method(request, metadata=self._metadata, timeout=timeout_s)

    def with_key(self, key: str) -> "Api":
        """The same server, called by another."""
        return Api(self.channel, key)

    # What most tests begin with.

    def make_tenant(self, tenant_id: str, **fields: object) -> apb.Tenant:
        tenant = apb.Tenant(id=tenant_id, **fields)  # type: ignore[arg-type]  # fields of a tenant
        return self.ask(self.admin.CreateTenant, apb.CreateTenantRequest(tenant=tenant)).tenant

    def make_key(self, tenant_id: str, name: str = "test", **fields: object) -> str:
        """Its secret."""
        request = apb.CreateApiKeyRequest(tenant=tenant_id, name=name, **fields)  # type: ignore[arg-type]
        return self.ask(self.admin.CreateApiKey, request).secret

    def events(self, tenant: str = "") -> list[apb.AuditEvent]:
        """The newest of the audit log."""
        request = apb.ListAuditEventsRequest(tenant=tenant, page_size=1000)
        return list(self.ask(self.admin.ListAuditEvents, request).events)


def generate(api: Api) -> str:
    """What a key may do with scope infer: three tokens of the reply to "hi"."""
    request = pb.GenerateRequest(model="smollm2", prompt="hi", sampling=pb.SamplingParams(max_tokens=3))
    return api.ask(api.inference.Complete, pb.CompleteRequest(request=request)).text


def key_of(api: Api, tenant: str, name: str = "test") -> apb.ApiKey:
    keys = api.ask(api.admin.ListApiKeys, apb.ListApiKeysRequest(tenant=tenant)).keys
    return next(key for key in keys if key.name == name)


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    """How a call ended."""
    try:
        call()
    except grpc.RpcError as error:
        return cast("grpc.Call", error).code()
    return grpc.StatusCode.OK


@dataclass(frozen=True)
class Refused:
    """An error with its details."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: Mapping[str, str]
    fields: tuple[str, ...]  # of BadRequest
    subjects: tuple[str, ...]  # of QuotaFailure
    retry_s: float | None  # of RetryInfo
    pushback: str | None  # the trailer


def refused(call: Callable[[], object]) -> Refused:
    """What the call was refused with; fails when it was not."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    assert isinstance(error, grpc.Call)
    trailers = dict(cast("Iterable[tuple[str, bytes | str]]", error.trailing_metadata() or ()))
    status = status_pb2.Status.FromString(cast("bytes", trailers.get("grpc-status-details-bin", b"")))
    found = {detail.type_url.rpartition(".")[2]: detail.value for detail in status.details}
    info = status_pb2.ErrorInfo.FromString(found.get("ErrorInfo", b""))
    bad = status_pb2.BadRequest.FromString(found.get("BadRequest", b""))
    quota = status_pb2.QuotaFailure.FromString(found.get("QuotaFailure", b""))
    retry_s = None
    if "RetryInfo" in found:
        delay = status_pb2.RetryInfo.FromString(found["RetryInfo"]).retry_delay
        retry_s = delay.seconds + delay.nanos / 1e9
    pushback = trailers.get("grpc-retry-pushback-ms")
    return Refused(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        metadata=dict(info.metadata),
        fields=tuple(violation.field for violation in bad.field_violations),
        subjects=tuple(violation.subject for violation in quota.violations),
        retry_s=retry_s,
        pushback=None if pushback is None else str(pushback),
    )
