"""API keys: `authorization: Bearer bl_...`."""

from router.directory.directory import Directory
from router.faults import unauthenticated
from router.identity.authentication import Context, bearer
from router.identity.caller import Caller

PREFIX = "bl_"


class ApiKeys:
    """Callers with an API key. A key that was made elsewhere may have another form than `bl_...`."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def __call__(self, context: Context) -> Caller | None:
        secret = bearer(context)
        if secret is None:
            return None
        key = self._directory.key_of(secret)
        if key is not None:
            return Caller(self._directory.tenant(key.tenant), key.name, key.scopes, key.quota)
        if secret.startswith(PREFIX):
            raise unauthenticated()
        return None  # perhaps a token
