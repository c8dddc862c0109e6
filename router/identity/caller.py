"""A caller, whatever way it was found."""

from dataclasses import dataclass

import grpc

from router.directory.quota import NO_QUOTA, Quota
from router.directory.tenants import Tenant
from router.faults import Fault
from router.scopes import Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody of a tenant, or an operator."""

    tenant: Tenant | None  # as it is now; None: an operator
    key: str  # name of the credential, never the credential; by it usage is told apart
    scopes: frozenset[Scope]
    quota: Quota = NO_QUOTA  # of the credential, beside the tenant's
    subject: str = ""  # whom a token speaks of, where a credential serves many

    @property
    def name(self) -> str:
        """How a change says who made it."""
        name = f"{self.tenant.id}/{self.key}" if self.tenant else f"operator/{self.key}"
        return f"{name}:{self.subject}" if self.subject else name

    def require(self, scope: Scope) -> None:
        """Raises Fault PERMISSION_DENIED, SCOPE_MISSING, when the key does not have the scope."""
        if scope not in self.scopes:
            raise Fault(
                grpc.StatusCode.PERMISSION_DENIED,
                "SCOPE_MISSING",
                f"this key may not be used for that: it has no scope {scope.value}",
                {"scope": scope.value},
            )
