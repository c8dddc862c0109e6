"""All errors of the SDK. The branches say what the caller can do; gRPC types never leave the SDK.

    BitlaneError
    ├── RequestError               change the request
    │   ├── InvalidRequest         INVALID_ARGUMENT, OUT_OF_RANGE   every bad field is in `violations`
    │   ├── NotFound               NOT_FOUND                        unknown model, request id, tenant, key ...
    │   ├── AlreadyExists          ALREADY_EXISTS                   a tenant or key of this name is there already
    │   │   └── IdConflict         REQUEST_ID_TAKEN                 the request id was used with another body
    │   ├── EditConflict           ABORTED, ETAG_MISMATCH           somebody changed it meanwhile: get it and edit again
    │   └── FailedPrecondition     FAILED_PRECONDITION              something else has to change first
    │       └── PrecisionUnavailable  PRECISION_UNAVAILABLE         no pool offers what the policy needs
    ├── AccessError                change the key, or ask for rights
    │   ├── AuthenticationError    UNAUTHENTICATED
    │   └── PermissionDenied       PERMISSION_DENIED                model, precision or call not allowed
    ├── TryLaterError              send the same again, later
    │   ├── QuotaExceeded          RESOURCE_EXHAUSTED               `retry_after` says when
    │   ├── Unavailable            UNAVAILABLE                      no live worker, no broker
    │   │   └── ConnectionFailed   UNAVAILABLE without a reason     no server reached (also a ConnectionError)
    │   └── Aborted                ABORTED, CANCELLED               the reply was lost: start it again
    ├── DeadlineExceeded           DEADLINE_EXCEEDED                give more time (also a TimeoutError)
    ├── InternalError              all other codes                  a bug: report it with the request id
    └── ConfigError                (never sent)                     the client was set up wrongly (also a ValueError)

What the SDK checks itself (two prompts at once, an unknown task name) raises the same `InvalidRequest` as the server
does, with `metadata["checked_by"] == "client"`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

__all__ = [
    "Aborted",
    "AccessError",
    "AlreadyExists",
    "AuthenticationError",
    "BitlaneError",
    "ConfigError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "EditConflict",
    "FailedPrecondition",
    "IdConflict",
    "InternalError",
    "InvalidRequest",
    "NotFound",
    "PermissionDenied",
    "PrecisionUnavailable",
    "QuotaExceeded",
    "RequestError",
    "TryLaterError",
    "Unavailable",
    "Violation",
]


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field of a request, or one quota that was hit."""

    field: str
    """Path of the field, such as `sampling.max_tokens`; for a quota, what it is about, such as `tenant:acme`."""
    description: str
    """What is wrong and what to do."""

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


class BitlaneError(Exception):
    """Anything that went wrong with a request. `str(error)` is one readable text, violations included."""

    default_message: ClassVar[str] = "the request failed"

    def __init__(
        self,
        message: str = "",
        *,
        request_id: str | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(message or self.default_message)
        self.message = message or self.default_message
        self.request_id = request_id
        """Names the request in the server's logs and traces; None when there was none yet."""
        self.reason = reason
        """Machine-readable cause such as POOL_UNAVAILABLE; empty when the server gave none."""
        self.metadata: dict[str, str] = dict(metadata or {})
        """The dynamic parts of the message, by name."""
        self.violations = tuple(violations)
        self.retry_after = retry_after
        """Seconds that the server asks to wait before the next attempt; None when it did not say."""
        self.final = final
        """True when the server asked not to send this request again."""

    def __str__(self) -> str:
        if not self.violations:
            return self.message
        # A server that already wrote the violations into its message is not repeated.
        details = [str(violation) for violation in self.violations if violation.description not in self.message]
        return "; ".join([self.message, *details])

    def __reduce__(self) -> tuple[type[Self], tuple[str], dict[str, object]]:
        # The keyword arguments travel as state, so that errors survive multiprocessing.
        return type(self), (self.message,), self.__dict__


class RequestError(BitlaneError):
    """The request cannot work as it is."""


class InvalidRequest(RequestError):
    """A field is missing or wrong; `violations` names every one."""

    default_message = "the request is not valid"


class NotFound(RequestError):
    """No such thing, or not for this key."""

    default_message = "not found"


class AlreadyExists(RequestError):
    """What was to be made is there already."""

    default_message = "it exists already"


class IdConflict(AlreadyExists):
    """The request id already belongs to a request with another body."""

    default_message = "the request id is taken by another request"


class EditConflict(RequestError):
    """What was to be changed has changed meanwhile; the etag of what is there now is in `metadata["current_etag"]`."""

    default_message = "it has changed meanwhile"


class FailedPrecondition(RequestError):
    """It cannot be done as things are, such as the rotation of a revoked key; `reason` says what is in the way."""

    default_message = "it cannot be done as things are"


class PrecisionUnavailable(FailedPrecondition):
    """The policy needs a precision that no pool of the model offers."""

    default_message = "no pool offers the precision that is needed"


class AccessError(BitlaneError):
    """The key does not open this."""


class AuthenticationError(AccessError):
    """No API key, or not a valid one."""

    default_message = "no valid API key"


class PermissionDenied(AccessError):
    """The key is valid, but not for this model, precision or call."""

    default_message = "not allowed"


class TryLaterError(BitlaneError):
    """The same request can succeed later."""


class QuotaExceeded(TryLaterError):
    """A rate, budget or queue bound was reached.

    `reason` says of which kind, such as QUOTA_TOKENS; `violations` whose, such as `tenant:acme/key:ci`; `retry_after`
    when it can succeed. `final`: never as it is, because it wants more than there ever is.
    """

    default_message = "a quota was reached"


class Unavailable(TryLaterError):
    """The service cannot take the request now."""

    default_message = "the service is not available"


class ConnectionFailed(Unavailable, ConnectionError):
    """No server could be reached, or the connection broke and could not be made again."""

    default_message = "no connection to the server"


class Aborted(TryLaterError):
    """The reply ended before its end and cannot be continued; a new request can succeed."""

    default_message = "the reply was lost"


class DeadlineExceeded(BitlaneError, TimeoutError):
    """The timeout passed, or the server saw that it cannot be met."""

    default_message = "the deadline passed"


class InternalError(BitlaneError):
    """A fault of the server, or an answer that makes no sense."""

    default_message = "the server failed"


class ConfigError(BitlaneError, ValueError):
    """The client's own settings are wrong: target, TLS, key."""

    default_message = "the client is set up wrongly"
