"""Who calls: the tenant is found by the credential in the metadata, never by anything in the request."""

import hashlib
from collections.abc import Iterable, Mapping

from router.config import TenantConfig
from router.faults import unauthenticated

_SCHEME = "bearer "


def authenticate(
    metadata: Iterable[tuple[str, str | bytes]], tenants_by_key: Mapping[str, TenantConfig]
) -> TenantConfig:
    """The tenant of the API key in `authorization: Bearer bl_...`.

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
    tenant = tenants_by_key.get(digest)
    if tenant is None:
        raise unauthenticated()
    return tenant
