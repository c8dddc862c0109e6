"""What a fake server is told to do, and what it tells of it afterwards."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as ProtoMessage

from bitlane import convert
from bitlane.errors import Violation
from bitlane.rpc.v1 import status_pb2
from bitlane.types import DecisionReason, FinishReason, Precision, PrecisionName, Sensitivity, Task, TaskName

Method: TypeAlias = Literal[
    "Generate",
    "Complete",
    "Resume",
    "Cancel",
    "Explain",
    "ListModels",
    "CreateTenant",
    "GetTenant",
    "ListTenants",
    "UpdateTenant",
    "DeleteTenant",
    "CreateApiKey",
    "ListApiKeys",
    "UpdateApiKey",
    "RotateApiKey",
    "RevokeApiKey",
    "GetQuotaState",
    "GetUsage",
]
Code: TypeAlias = Literal[
    "INVALID_ARGUMENT",
    "OUT_OF_RANGE",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "UNKNOWN",
    "DATA_LOSS",
    "UNIMPLEMENTED",
]


@dataclass(frozen=True, slots=True)
class Reply:
    """A scripted reply: chunk i is one delta with index i."""

    chunks: Sequence[str] = ("Hello", ", ", "world", "!")
    precision: Precision | PrecisionName = "fp4"
    """Chosen by the fake policy, unless the request pins another."""
    reason: DecisionReason = DecisionReason.LOW_SENSITIVITY
    task: Task | TaskName = "chat"
    """Found by the fake classifier, unless the request gives a hint."""
    sensitivity: Sensitivity = Sensitivity.LOW
    finish_reason: FinishReason = FinishReason.STOP
    pause: float = 0.0
    """Seconds before each chunk."""
    hold_after: int | None = None
    """After this many chunks the reply waits for `FakeServer.release`, or until it is cancelled."""


@dataclass(slots=True)
class Fault:
    """Makes calls fail. Ready-made: `Fault.drop` and `Fault.unavailable`."""

    code: Code
    message: str = ""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    violations: Sequence[Violation] = ()
    """Sent as BadRequest, or as QuotaFailure with RESOURCE_EXHAUSTED."""
    retry_after: float | None = None
    """Seconds, sent as RetryInfo."""
    pushback_ms: str | None = None
    """Sent as `grpc-retry-pushback-ms`; "-1" forbids a retry."""
    after: int | None = None
    """None: the call fails before its first event. k: after `accepted` and k of this call's own chunks; a call of the
    admin API: when it has taken effect."""
    method: Method | None = None
    """None: any."""
    times: int = 1
    """How many calls fail."""

    @classmethod
    def drop(cls, after: int | None = None, *, method: Method | None = None, times: int = 1) -> "Fault":
        """What a client sees when the connection breaks: UNAVAILABLE without any details."""
        return cls("UNAVAILABLE", "connection reset by peer", after=after, method=method, times=times)

    @classmethod
    def unavailable(cls, *, times: int = 1, retry_after: float | None = None, method: Method | None = None) -> "Fault":
        """What the server says when no worker is alive."""
        return cls(
            "UNAVAILABLE",
            "no live worker in pool fake/fp4",
            reason="POOL_UNAVAILABLE",
            retry_after=retry_after,
            method=method,
            times=times,
        )

    def trailers(self) -> list[tuple[str, str | bytes]]:
        """The trailing metadata that carries the details, as google.rpc.Status."""
        status = status_pb2.Status(message=self.message)
        if self.reason:
            info = status_pb2.ErrorInfo(reason=self.reason, domain="bitlane", metadata=self.metadata)
            _attach(status, "ErrorInfo", info)
        if self.violations and self.code == "RESOURCE_EXHAUSTED":
            quota = status_pb2.QuotaFailure()
            for each in self.violations:
                quota.violations.add(subject=each.field, description=each.description)
            _attach(status, "QuotaFailure", quota)
        elif self.violations:
            bad = status_pb2.BadRequest()
            for each in self.violations:
                bad.field_violations.add(field=each.field, description=each.description)
            _attach(status, "BadRequest", bad)
        if self.retry_after is not None:
            delay: Duration = convert.duration_to_wire(self.retry_after)
            _attach(status, "RetryInfo", status_pb2.RetryInfo(retry_delay=delay))
        trailers: list[tuple[str, str | bytes]] = []
        if status.details:
            trailers.append(("grpc-status-details-bin", status.SerializeToString()))
        if self.pushback_ms is not None:
            trailers.append(("grpc-retry-pushback-ms", self.pushback_ms))
        return trailers


def _attach(status: status_pb2.Status, name: str, detail: ProtoMessage) -> None:
    # Packed by hand: the messages are equal to google.rpc's on the wire, but have another name here.
    status.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString())


@dataclass(slots=True)
class Call:
    """One call that the fake server got."""

    method: Method
    request_id: str
    request: ProtoMessage
    """The message; for Explain and Complete the GenerateRequest in it."""
    metadata: dict[str, str]
    timeout: float | None
    """Seconds that the deadline left on arrival; None without a deadline."""
    outcome: Literal["running", "ok", "failed", "cancelled"] = "running"
    """`cancelled`: the client went away before the end."""
    ended: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the call has ended. In asyncio: `await asyncio.to_thread(call.ended.wait, 5)`."""
