"""The ways to a caller, tried in turn."""

from collections.abc import Sequence
from typing import Protocol

import grpc

from router.directory.directory import Directory
from router.faults import broker_unavailable, tenant_suspended, unauthenticated
from router.identity.caller import Caller

Context = grpc.aio.ServicerContext[bytes, bytes]
_SCHEME = "bearer "


class Authenticator(Protocol):
    """One way to a caller."""

    def __call__(self, context: Context) -> Caller | None:
        """Who calls; None when the call carries no credential of this kind.

        Raises:
            Fault: `router.faults.unauthenticated()`, and no other, for a credential of this kind that is not valid;
                UNAVAILABLE when that cannot be told now.
        """


class Authentication:
    """Finds the caller of every call."""

    def __init__(self, directory: Directory, authenticators: Sequence[Authenticator]) -> None:
        self._directory = directory
        self._authenticators = authenticators

    def __call__(self, context: Context) -> Caller:
        """
        Raises:
            Fault: UNAUTHENTICATED, the same whatever is wrong; PERMISSION_DENIED when the tenant is suspended;
                UNAVAILABLE while nobody is known, because the store has not been read yet.
        """
        if not self._directory.ready:
            raise broker_unavailable()
        for authenticator in self._authenticators:
            caller = authenticator(context)
            if caller is not None:
                if caller.tenant is not None and caller.tenant.suspended:
                    raise tenant_suspended(caller.tenant.id)
                return caller
        raise unauthenticated()


def bearer(context: Context) -> str | None:
    """The credential in `authorization: Bearer ...`; None when there is no such metadata.

    Raises:
        Fault: UNAUTHENTICATED for one of another form, or more than one.
    """
    credentials = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if not credentials:
        return None
    credential = credentials[0]
    if len(credentials) > 1 or not isinstance(credential, str) or credential[: len(_SCHEME)].lower() != _SCHEME:
        raise unauthenticated()
    return credential[len(_SCHEME) :]
