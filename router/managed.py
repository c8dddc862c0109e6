"""Which tenant a management call is about."""

from router.directory.directory import Directory
from router.directory.tenants import Tenant
from router.faults import no_tenant, unknown_tenant
from router.identity.caller import Caller


def managed_tenant(directory: Directory, caller: Caller, named: str) -> Tenant:
    """The key's own tenant, or the one that an operator names.

    Raises:
        Fault: NOT_FOUND, the same for a tenant that does not exist and one that is not the caller's.
    """
    if caller.tenant is not None:
        if named and named != caller.tenant.id:
            raise unknown_tenant(named)
        return caller.tenant
    if not named:
        raise no_tenant()
    tenant = directory.tenant(named)
    if tenant is None:
        raise unknown_tenant(named)
    return tenant
