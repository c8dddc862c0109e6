"""API keys: what they are for, how long they are valid, and how the right one is found by its secret.

Only the SHA-256 of a secret is stored. A secret has 256 random bits, so that a slow hash would protect nothing.
"""

import hmac
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Self

import structlog
from pydantic import Field, PlainSerializer, StringConstraints, ValidationError

from broker.documents import Document
from router.directory.quota import NO_QUOTA, Quota
from router.directory.stored import NAME, Stored, reasons
from router.scopes import Scope

KEY, OPERATOR_KEY = "key", "operator-key"
_log = structlog.get_logger("bitlane.router")

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Scopes = Annotated[frozenset[Scope], PlainSerializer(sorted)]


class KeyState(StrEnum):
    """Whether a key is valid."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Secret(Stored):
    """What opens a key. Times are ms since the epoch."""

    sha256: Sha256 = Field(repr=False)
    expires_ms: int | None = None  # of a secret that was replaced; None: as long as the key


class ApiKey(Stored):
    """A key as its document has it. The fields that are not stored come from the document's name and version."""

    tenant: str = Field(default="", exclude=True)  # empty: an operator's
    name: str = Field(default="", exclude=True)
    etag: str = Field(default="", exclude=True)
    tenant_uid: str = ""  # of the tenant that it was made for
    scopes: Scopes
    secrets: tuple[Secret, ...]  # two while an old one overlaps; none once it is revoked
    created_ms: int = 0
    created_by: str = ""
    expires_ms: int | None = None
    revoked_ms: int | None = None
    rotated_ms: int | None = None
    quota: Quota = NO_QUOTA

    def state(self, now_ms: float) -> KeyState:
        if self.revoked_ms is not None:
            return KeyState.REVOKED
        expired = self.expires_ms is not None and self.expires_ms <= now_ms
        return KeyState.EXPIRED if expired else KeyState.ACTIVE

    def opened_by(self, sha256: str, now_ms: float) -> bool:
        """Whether the secret with this hash is a valid one."""
        return self.state(now_ms) is KeyState.ACTIVE and any(
            hmac.compare_digest(secret.sha256, sha256) and (secret.expires_ms is None or now_ms < secret.expires_ms)
            for secret in self.secrets
        )

    def of(self, document: Document) -> Self:
        """The same with what the document's name and version say."""
        tenant, _, name = document.name.partition("/")[2].rpartition("/")
        return self.model_copy(update={"tenant": tenant, "name": name, "etag": document.etag})

    @property
    def text(self) -> str:
        """What its document says."""
        return self.model_dump_json(exclude_none=True)

    @property
    def old_secret_expires_ms(self) -> int | None:
        """Until when the secret before the last rotation is valid; None when there is none."""
        return next((secret.expires_ms for secret in self.secrets if secret.expires_ms is not None), None)

    @property
    def shown(self) -> str:
        """What the audit log may tell of it: no hash, nor what a newer release keeps beside one."""
        public = self.model_dump(mode="json", exclude_none=True, exclude={"secrets"})
        if self.old_secret_expires_ms is not None:
            public["old_secret_expires_ms"] = self.old_secret_expires_ms
        return json.dumps(public)


def key_document(tenant: str, name: str) -> str:
    """Name of a key's document; `tenant` is empty for an operator's key."""
    return f"{KEY}/{tenant}/{name}" if tenant else f"{OPERATOR_KEY}/{name}"


class KeyBook:
    """All keys, as this router knows them. Follows the documents of kinds `key` and `operator-key` (router.documents).

    `fixed` are keys by the hash of their secret that are no documents: the configuration's operators.
    """

    old_is_good = False  # it could be the version before a revocation

    def __init__(self, fixed: Mapping[str, ApiKey]) -> None:
        self._fixed = fixed
        self._keys: dict[str, dict[str, ApiKey]] = {}
        self._by_hash: dict[str, tuple[ApiKey, ...]] = {}
        self.reset()

    def find(self, sha256: str, now_ms: float) -> ApiKey | None:
        """The valid key that the secret with this hash opens; None if there is none, or more than one."""
        found = self._by_hash.get(sha256, ())
        return found[0] if len(found) == 1 and found[0].opened_by(sha256, now_ms) else None

    def knows(self, sha256: str) -> bool:
        """Whether any key has a secret with this hash."""
        return sha256 in self._by_hash

    def get(self, tenant: str, name: str) -> ApiKey | None:
        """A key that is stored; `tenant` is empty for an operator's."""
        return self._keys.get(tenant, {}).get(name)

    def of_tenant(self, tenant: str) -> Iterable[ApiKey]:
        """The stored keys of a tenant; those of operators for an empty one."""
        return self._keys.get(tenant, {}).values()

    def load(self, key: str, document: Document) -> None:
        tenant, _, name = key.rpartition("/")
        named = NAME.fullmatch(name) and (not tenant or NAME.fullmatch(tenant))
        if not named or document.name != key_document(tenant, name):
            raise ValueError("is no name of a key")
        self._forget(tenant, name)
        if not document.text:
            return
        try:
            loaded = ApiKey.model_validate_json(document.text).of(document)
        except ValidationError as error:
            raise ValueError(reasons(error)) from None
        self._keys.setdefault(tenant, {})[name] = loaded
        for secret in loaded.secrets:
            if secret.sha256 in self._fixed:
                _log.error("key.shadowed", key=document.name, hint="the configuration has an operator with this secret")
                continue
            self._by_hash[secret.sha256] = (*self._by_hash.get(secret.sha256, ()), loaded)

    def reset(self) -> None:
        self._keys.clear()
        self._by_hash = {sha256: (key,) for sha256, key in self._fixed.items()}

    def _forget(self, tenant: str, name: str) -> None:
        old = self._keys.get(tenant, {}).pop(name, None)
        for secret in old.secrets if old else ():
            others = tuple(key for key in self._by_hash.get(secret.sha256, ()) if key is not old)
            if others:
                self._by_hash[secret.sha256] = others
            else:
                self._by_hash.pop(secret.sha256, None)
