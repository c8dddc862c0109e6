"""From a gRPC status to the SDK's error. With convert.py the edge at which wire types end."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from bitlane import convert
from bitlane.errors import (
    Aborted,
    AlreadyExists,
    AuthenticationError,
    BitlaneError,
    ConnectionFailed,
    DeadlineExceeded,
    EditConflict,
    FailedPrecondition,
    IdConflict,
    InternalError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PrecisionUnavailable,
    QuotaExceeded,
    Unavailable,
    Violation,
)
from bitlane.rpc.v1 import status_pb2

BY_CODE: dict[grpc.StatusCode, type[BitlaneError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: QuotaExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.CANCELLED: Aborted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}

# Where a code stands for more than one thing that a caller can do.
BY_REASON: dict[str, type[BitlaneError]] = {
    "ETAG_MISMATCH": EditConflict,
    "PRECISION_UNAVAILABLE": PrecisionUnavailable,
    "REQUEST_ID_TAKEN": IdConflict,
}

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"


@dataclass(slots=True)
class _Details:
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    violations: list[Violation] = field(default_factory=list[Violation])
    retry_after: float | None = None
    final: bool = False

    def read_status(self, value: bytes) -> None:
        """Takes what it knows out of a google.rpc.Status; a broken or newer detail must not hide the error itself."""
        try:
            for detail in status_pb2.Status.FromString(value).details:
                self._read(detail.type_url.rpartition("/")[2], detail.value)
        except DecodeError:
            return

    def _read(self, type_name: str, value: bytes) -> None:
        match type_name:
            case "google.rpc.ErrorInfo":
                info = status_pb2.ErrorInfo.FromString(value)
                self.reason, self.metadata = info.reason, dict(info.metadata)
            case "google.rpc.BadRequest":
                bad = status_pb2.BadRequest.FromString(value)
                self.violations += [Violation(each.field, each.description) for each in bad.field_violations]
            case "google.rpc.QuotaFailure":
                quota = status_pb2.QuotaFailure.FromString(value)
                self.violations += [Violation(each.subject, each.description) for each in quota.violations]
            case "google.rpc.RetryInfo":
                self.retry_after = convert.seconds(status_pb2.RetryInfo.FromString(value).retry_delay)
            case _:
                pass

    def read_pushback(self, value: str) -> None:
        """Milliseconds to wait; by gRPC's rules anything but a number of at least 0 means: do not retry."""
        if value.isascii() and value.isdigit():
            self.retry_after = int(value) / 1000
        else:
            self.final = True


def _read_details(trailers: Iterable[tuple[str, str | bytes]]) -> _Details:
    details = _Details()
    for key, value in trailers:
        if key == DETAILS_KEY and isinstance(value, bytes):
            details.read_status(value)
    # After the details, because pushback is the later word where both are sent.
    for key, value in trailers:
        if key == PUSHBACK_KEY:
            details.read_pushback(value if isinstance(value, str) else value.decode("ascii", "replace"))
    return details


def not_sent(error: BitlaneError) -> bool:
    """Whether a failed call certainly reached no server, because there was no connection.

    gRPC tells that in words only. Should they change, this says False, and what may not be repeated is not.
    """
    return isinstance(error, ConnectionFailed) and error.message.startswith("failed to connect to all addresses")


def _cut(code: grpc.StatusCode, message: str) -> bool:
    """Whether the connection's end ended the call.

    A proxy resets streams when it loses the router behind it; a router that stops cancels what outlives its grace.
    """
    return code is grpc.StatusCode.CANCELLED or (code is grpc.StatusCode.INTERNAL and "RST_STREAM" in message)


def from_rpc_error(error: aio.AioRpcError, request_id: str | None) -> BitlaneError:
    """The SDK's error for a failed call."""
    trailers = error.trailing_metadata()
    details = _read_details(list(trailers) if trailers else [])
    kind = BY_REASON.get(details.reason) or BY_CODE.get(error.code(), InternalError)
    message = error.details() or ""
    # Our server always gives a reason; without one it was the transport that failed, or something in between.
    if not details.reason and (kind is Unavailable or _cut(error.code(), message)):
        kind = ConnectionFailed
    if kind is InternalError and error.code() is not grpc.StatusCode.INTERNAL:
        message = f"{message} ({error.code().name})".strip()
    return kind(
        message,
        request_id=request_id,
        reason=details.reason,
        metadata=details.metadata,
        violations=details.violations,
        retry_after=details.retry_after,
        final=details.final,
    )
