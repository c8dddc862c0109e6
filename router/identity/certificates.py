"""Clients with a certificate: mutual TLS."""

from collections.abc import Sequence

from router.directory.directory import Directory
from router.faults import unauthenticated
from router.identity.authentication import Context, bearer
from router.identity.caller import Caller
from router.identity.config import CertificateConfig


class Certificates:
    """Callers whose certificate has a name that the configuration knows.

    The names are those that the TLS handshake of this connection has verified; metadata cannot say them. A call with an
    `authorization` is not judged by its certificate: a proxy's certificate must not stand in for the wrong key of a
    client behind it.
    """

    def __init__(self, directory: Directory, certificates: Sequence[CertificateConfig]) -> None:
        self._directory = directory
        self._by_name = {certificate.san: certificate for certificate in certificates}

    def __call__(self, context: Context) -> Caller | None:
        if bearer(context) is not None:
            return None
        peer = context.auth_context()
        names = [*peer.get("peer_uri", ()), *(name.lower() for name in peer.get("peer_dns", ()))]
        entries = [self._by_name[name] for each in names if (name := each.decode(errors="replace")) in self._by_name]
        callers = {(entry.tenant, entry.name, entry.scopes) for entry in entries}
        if not callers:
            return None
        tenant_id, key, scopes = callers.pop()
        tenant = self._directory.tenant(tenant_id)
        if callers or tenant is None:  # with two of them nobody can tell who it is
            raise unauthenticated()
        return Caller(tenant, key, scopes)
