"""bitlane: text generation that is routed by numeric precision, and says why.

    import bitlane

    with bitlane.Client("localhost:50051") as client:
        for delta in client.stream(messages=[{"role": "user", "content": "Write a haiku."}], model="smollm2"):
            print(delta.text, end="", flush=True)

`Client` blocks and `AsyncClient` is for asyncio; both have the same calls. Errors are drawn as a tree in
`bitlane.errors`; a fake server for tests is in `bitlane.testing`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from bitlane.errors import (
    Aborted,
    AccessError,
    AlreadyExists,
    AuthenticationError,
    BitlaneError,
    ConfigError,
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
    RequestError,
    TryLaterError,
    Unavailable,
    Violation,
)
from bitlane.retry import RetryPolicy
from bitlane.tls import Tls
from bitlane.types import (
    Accepted,
    Cancellation,
    Completion,
    ComputePath,
    Decision,
    DecisionReason,
    DecisionStep,
    Delta,
    Explanation,
    Finished,
    FinishReason,
    GateState,
    Message,
    MessageDict,
    Model,
    Pool,
    Precision,
    PrecisionName,
    Priority,
    PriorityName,
    Profile,
    Receipt,
    Role,
    RoleName,
    Sensitivity,
    Task,
    TaskName,
    TaskSource,
    TokenLogprobs,
    TopLogprob,
    Usage,
)
from bitlane.version import read_version

if TYPE_CHECKING:
    from bitlane.admin_types import (
        UNLIMITED,
        ApiKey,
        ApiKeyState,
        AuditEvent,
        DeadLetter,
        IssuedKey,
        Limits,
        PoolStatus,
        Quota,
        QuotaState,
        Scope,
        ScopeName,
        Tenant,
        TenantState,
        TenantStateName,
        UsageDimension,
        UsageDimensionName,
        UsageInterval,
        UsageIntervalName,
        UsageRow,
        WorkerState,
        WorkerStatus,
    )
    from bitlane.arguments import Options
    from bitlane.client import AsyncClient
    from bitlane.stream import AsyncStream
    from bitlane.sync import Client, Stream
    from bitlane.usage import USAGE_COLUMNS, usage_to_csv, usage_to_json_lines, usage_total

    __version__: str

_ADMIN = (
    "UNLIMITED",
    "ApiKey",
    "ApiKeyState",
    "AuditEvent",
    "DeadLetter",
    "IssuedKey",
    "Limits",
    "PoolStatus",
    "Quota",
    "QuotaState",
    "Scope",
    "ScopeName",
    "Tenant",
    "TenantState",
    "TenantStateName",
    "UsageDimension",
    "UsageDimensionName",
    "UsageInterval",
    "UsageIntervalName",
    "UsageRow",
    "WorkerState",
    "WorkerStatus",
)
_USAGE = ("USAGE_COLUMNS", "usage_to_csv", "usage_to_json_lines", "usage_total")
# Loaded on first use, so that `bitlane --help` and those who only want the generated code need not wait for gRPC, nor
# anyone for what few need.
_LAZY = {
    **dict.fromkeys(_ADMIN, "bitlane.admin_types"),
    **dict.fromkeys(_USAGE, "bitlane.usage"),
    "AsyncClient": "bitlane.client",
    "AsyncStream": "bitlane.stream",
    "Client": "bitlane.sync",
    "Options": "bitlane.arguments",
    "Stream": "bitlane.sync",
}

__all__ = [
    "UNLIMITED",
    "USAGE_COLUMNS",
    "Aborted",
    "Accepted",
    "AccessError",
    "AlreadyExists",
    "ApiKey",
    "ApiKeyState",
    "AsyncClient",
    "AsyncStream",
    "AuditEvent",
    "AuthenticationError",
    "BitlaneError",
    "Cancellation",
    "Client",
    "Completion",
    "ComputePath",
    "ConfigError",
    "ConnectionFailed",
    "DeadLetter",
    "DeadlineExceeded",
    "Decision",
    "DecisionReason",
    "DecisionStep",
    "Delta",
    "EditConflict",
    "Explanation",
    "FailedPrecondition",
    "FinishReason",
    "Finished",
    "GateState",
    "IdConflict",
    "InternalError",
    "InvalidRequest",
    "IssuedKey",
    "Limits",
    "Message",
    "MessageDict",
    "Model",
    "NotFound",
    "Options",
    "PermissionDenied",
    "Pool",
    "PoolStatus",
    "Precision",
    "PrecisionName",
    "PrecisionUnavailable",
    "Priority",
    "PriorityName",
    "Profile",
    "Quota",
    "QuotaExceeded",
    "QuotaState",
    "Receipt",
    "RequestError",
    "RetryPolicy",
    "Role",
    "RoleName",
    "Scope",
    "ScopeName",
    "Sensitivity",
    "Stream",
    "Task",
    "TaskName",
    "TaskSource",
    "Tenant",
    "TenantState",
    "TenantStateName",
    "Tls",
    "TokenLogprobs",
    "TopLogprob",
    "TryLaterError",
    "Unavailable",
    "Usage",
    "UsageDimension",
    "UsageDimensionName",
    "UsageInterval",
    "UsageIntervalName",
    "UsageRow",
    "Violation",
    "WorkerState",
    "WorkerStatus",
    "__version__",
    "usage_to_csv",
    "usage_to_json_lines",
    "usage_total",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return read_version()
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'bitlane' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
