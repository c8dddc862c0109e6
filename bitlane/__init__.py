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
    AuthenticationError,
    BitlaneError,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    EditConflict,
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
    from bitlane.arguments import Options
    from bitlane.client import AsyncClient
    from bitlane.stream import AsyncStream
    from bitlane.sync import Client, Stream

    __version__: str

# Loaded on first use, so that `bitlane --help` and those who only want the generated code need not wait for gRPC.
_LAZY = {
    "AsyncClient": "bitlane.client",
    "AsyncStream": "bitlane.stream",
    "Client": "bitlane.sync",
    "Options": "bitlane.arguments",
    "Stream": "bitlane.sync",
}

__all__ = [
    "Aborted",
    "Accepted",
    "AccessError",
    "AsyncClient",
    "AsyncStream",
    "AuthenticationError",
    "BitlaneError",
    "Cancellation",
    "Client",
    "Completion",
    "ComputePath",
    "ConfigError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Decision",
    "DecisionReason",
    "DecisionStep",
    "Delta",
    "EditConflict",
    "Explanation",
    "FinishReason",
    "Finished",
    "GateState",
    "IdConflict",
    "InternalError",
    "InvalidRequest",
    "Message",
    "MessageDict",
    "Model",
    "NotFound",
    "Options",
    "PermissionDenied",
    "Pool",
    "Precision",
    "PrecisionName",
    "PrecisionUnavailable",
    "Priority",
    "PriorityName",
    "Profile",
    "QuotaExceeded",
    "Receipt",
    "RequestError",
    "RetryPolicy",
    "Role",
    "RoleName",
    "Sensitivity",
    "Stream",
    "Task",
    "TaskName",
    "TaskSource",
    "Tls",
    "TokenLogprobs",
    "TopLogprob",
    "TryLaterError",
    "Unavailable",
    "Usage",
    "Violation",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return read_version()
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'bitlane' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
