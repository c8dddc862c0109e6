"""Who calls: found by the credential in the metadata, never by anything in the request."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc

from router.config import Config, Scope, TenantConfig
from router.faults import Fault, unauthenticated

_SCHEME = "bearer "
_OPERATOR_SCOPES = frozenset((Scope.READ, Scope.ADMIN, Scope.OPERATE))


@dataclass(frozen=True, slots=True)
class Caller:
    """A key of a tenant, or an operator's."""

    owner: TenantConfig | None  # None: an operator
    key: str  # the key's name, never the key
    scopes: frozenset[Scope]

    @property
    def name(self) -> str:
        """How a change says who made it."""
        return f"{self.owner.id}/{self.key}" if self.owner else f"operator/{self.key}"

    def require(self, scope: Scope) -> None:
        """Raises Fault PERMISSION_DENIED, SCOPE_MISSING, when the key does not have the scope."""
        if scope not in self.scopes:
            raise Fault(
                grpc.StatusCode.PERMISSION_DENIED,
                "SCOPE_MISSING",
                f"this key may not be used for that: it has no scope {scope.value}",
                {"scope": scope.value},
            )


def callers_of(config: Config) -> Mapping[str, Caller]:
    """Every caller by the hash of its key."""
    callers = {key.sha256: Caller(tenant, key.name, key.scopes) for tenant in config.tenants for key in tenant.keys}
    for operator in config.operators:
        callers[operator.sha256] = Caller(None, operator.name, _OPERATOR_SCOPES)
    return callers


def authenticate(metadata: Iterable[tuple[str, str | bytes]], callers: Mapping[str, Caller]) -> Caller:
    """The caller with the API key in `authorization: Bearer bl_...`.

    The key is hashed before it is looked up, so that how long the look-up takes says nothing about any key.

    Raises:
        Fault: UNAUTHENTICATED, the same whatever is wrong.
    """
    credentials = [value for key, value in metadata if key == "authorization"]
    if len(credentials) != 1 or not isinstance(credentials[0], str):
        raise unauthenticated()
    credential = credentials[0]
    if credential[: len(_SCHEME)].lower() != _SCHEME:
        raise unauthenticated()
    digest = hashlib.sha256(credential[len(_SCHEME) :].encode()).hexdigest()
    caller = callers.get(digest)
    if caller is None:
        raise unauthenticated()
    return caller
