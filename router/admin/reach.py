"""How far a list of what was reaches: one tenant, perhaps one that is gone, or all."""

from router.directory.directory import Directory
from router.faults import unknown_tenant
from router.identity.caller import Caller


def reach(directory: Directory, caller: Caller, named: str) -> str | None:
    """The caller's own tenant, or what an operator names, which may have been deleted; None: all.

    Raises:
        Fault: NOT_FOUND, the same for a tenant that never was and one that is not the caller's.
    """
    if caller.tenant is not None:
        if named not in ("", caller.tenant.id):
            raise unknown_tenant(named)
        return caller.tenant.id
    if named and named not in directory.tenants.ever:
        raise unknown_tenant(named)
    return named or None
