"""Every way in which the router says no: a status code, a reason, and what the caller can do about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message

from bitlane.rpc.v1 import status_pb2

DOMAIN = "bitlane"
# Clients accept 8 KiB of trailers by default, and a violation has up to some 250 bytes.
_MOST_VIOLATIONS = 16
_TYPE_URL = "type.googleapis.com/google.rpc."


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its path in the request, and what is wrong and what to do."""

    field: str
    description: str


@dataclass(eq=False)  # not frozen: Python itself sets the traceback
class Fault(Exception):
    """An RPC's end with an error. Turned into a google.rpc.Status with details in one place, `router.rpc`."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    violations: tuple[Violation, ...] = ()
    retry_after_s: float | None = None
    retry_never: bool = False  # the same request can never succeed
    quota_subject: str = ""

    def status(self, request_id: str) -> status_pb2.Status:
        """The google.rpc.Status, with ErrorInfo always and the other details where they apply."""
        metadata = dict(self.metadata)
        if request_id:
            metadata["request_id"] = request_id
        number: int = self.code.value[0]
        status = status_pb2.Status(code=number, message=self.message)
        details: list[any_pb2.Any] = status.details  # type: ignore[assignment]  # a repeated field appends like a list
        details.append(_detail("ErrorInfo", status_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=metadata)))
        if self.violations:
            bad_request = status_pb2.BadRequest()
            for violation in self.violations:
                bad_request.field_violations.add(field=violation.field, description=violation.description)
            details.append(_detail("BadRequest", bad_request))
        if self.retry_after_s is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(round(self.retry_after_s * 1000))
            details.append(_detail("RetryInfo", status_pb2.RetryInfo(retry_delay=delay)))
        if self.quota_subject:
            quota = status_pb2.QuotaFailure()
            quota.violations.add(subject=self.quota_subject, description=self.message)
            details.append(_detail("QuotaFailure", quota))
        return status


def _detail(name: str, message: Message) -> any_pb2.Any:
    return any_pb2.Any(type_url=_TYPE_URL + name, value=message.SerializeToString())


def invalid(violations: Sequence[Violation]) -> Fault:
    """INVALID_ARGUMENT, naming the bad fields: as many of them as safely fit into the trailers."""
    told = tuple(violations[:_MOST_VIOLATIONS])
    text = "; ".join(f"{v.field} {v.description}" for v in told[:3])
    if len(violations) > 3:
        text += f"; and {len(violations) - 3} more"
    return Fault(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID", text, violations=told)


def unauthenticated() -> Fault:
    """Never says which part was wrong."""
    return Fault(
        grpc.StatusCode.UNAUTHENTICATED,
        "CREDENTIAL_INVALID",
        "a valid API key is needed: send the metadata `authorization: Bearer bl_...`",
    )


def tenant_suspended(tenant: str) -> Fault:
    return Fault(
        grpc.StatusCode.PERMISSION_DENIED,
        "TENANT_SUSPENDED",
        f"tenant {tenant} is suspended; ask those who run the service",
        {"tenant": tenant},
    )


def no_tenant() -> Fault:
    """An operator's key where a tenant has to be named."""
    return invalid([Violation("tenant", "is empty; an operator's key belongs to no tenant, so name one")])


def unknown_tenant(tenant: str) -> Fault:
    """The same for a tenant that does not exist and one that the key does not belong to."""
    return Fault(
        grpc.StatusCode.NOT_FOUND,
        "TENANT_NOT_FOUND",
        f"there is no tenant {tenant[:64]!r} that this key may manage",
        {"tenant": tenant[:64]},
    )


def unknown_version(version: int) -> Fault:
    return Fault(
        grpc.StatusCode.NOT_FOUND,
        "POLICY_VERSION_NOT_FOUND",
        f"there is no version {version} of the policy, or it is no longer kept",
        {"version": str(version)},
    )


def etag_mismatch(current: str) -> Fault:
    """A lost update, refused."""
    return Fault(
        grpc.StatusCode.ABORTED,
        "ETAG_MISMATCH",
        f"it has changed meanwhile: its etag is {current!r} now; get it, and make your change to that version",
        {"current_etag": current},
    )


def checkpoint_unknown(model: str) -> Fault:
    return Fault(
        grpc.StatusCode.FAILED_PRECONDITION,
        "CHECKPOINT_UNKNOWN",
        f"nobody serves {model} in FP4 now, so that its checkpoint is not known; name it by checkpoint_digest",
        {"model": model},
    )


def unknown_model(model: str) -> Fault:
    """The same for a model that does not exist and one that the tenant may not see."""
    return Fault(
        grpc.StatusCode.NOT_FOUND,
        "MODEL_NOT_FOUND",
        f"there is no model {model!r}; ListModels names those you may use",
        {"model": model},
    )


def reply_lost(request_id: str) -> Fault:
    """The store lost the end of a reply that its client has read: it cannot be continued from there."""
    return Fault(
        grpc.StatusCode.ABORTED,
        "REPLY_LOST",
        "the store has lost chunks of this reply that were sent already; send the request again under another id",
        {"request_id": request_id},
    )


def unknown_request(request_id: str) -> Fault:
    """The same for a request that never was, one whose resume window is over, and another tenant's."""
    return Fault(
        grpc.StatusCode.NOT_FOUND,
        "REQUEST_NOT_FOUND",
        f"there is no request {request_id!r}, or its resume window is over",
        {"request_id": request_id},
    )


def broker_unavailable() -> Fault:
    return Fault(
        grpc.StatusCode.UNAVAILABLE,
        "BROKER_UNAVAILABLE",
        "the queue cannot be reached; try again",
        retry_after_s=1.0,
    )


def router_draining() -> Fault:
    return Fault(
        grpc.StatusCode.UNAVAILABLE,
        "ROUTER_DRAINING",
        "this router is stopping; resume at another one",
        retry_after_s=0.0,
    )


def request_id_taken(request_id: str) -> Fault:
    return Fault(
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_TAKEN",
        f"request {request_id!r} exists with another body; use a new request_id",
    )


def not_migratable() -> Fault:
    return Fault(
        grpc.StatusCode.ABORTED,
        "NOT_MIGRATABLE",
        "the worker died, and a request with guided decoding cannot go on at another one; send it again",
    )


def attempts_exhausted(attempts: int) -> Fault:
    return Fault(
        grpc.StatusCode.ABORTED,
        "ATTEMPTS_EXHAUSTED",
        f"the request failed on {attempts} workers and was put aside",
        {"attempts": str(attempts)},
    )


def deadline_exceeded() -> Fault:
    return Fault(
        grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the reply could not be whole before the deadline"
    )


def internal() -> Fault:
    """Our bug. The log has the rest."""
    return Fault(grpc.StatusCode.INTERNAL, "INTERNAL", "internal error; quote the request id when you report it")
