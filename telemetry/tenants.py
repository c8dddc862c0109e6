"""Which tenants have a label of their own on metrics: a configured list, so that the number of series is bounded."""

from collections.abc import Iterable

OTHER = "other"
NONE = "none"  # before a call was authenticated, and operators' calls
# Each tenant adds some 200 series to a router.
MOST = 100


class TenantLabels:
    """Maps tenants to the values of `bitlane.tenant`."""

    def __init__(self, named: Iterable[str] = ()) -> None:
        """Raises ValueError when more tenants are named than metrics can carry."""
        self._named = frozenset(named)
        if len(self._named) > MOST:
            raise ValueError(f"at most {MOST} tenants can have metrics of their own, not {len(self._named)}")

    @property
    def named(self) -> frozenset[str]:
        """Those that have one."""
        return self._named

    def of(self, tenant: str) -> str:
        """The label for a tenant; traces and logs have its id."""
        if tenant in self._named:
            return tenant
        return OTHER if tenant else NONE
