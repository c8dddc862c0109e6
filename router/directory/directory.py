"""Tenants and keys together: who a credential belongs to."""

import hashlib
import time
from collections.abc import Mapping, Sequence

from broker.types import Account, Limits
from router.directory.keys import KEY, OPERATOR_KEY, ApiKey, KeyBook
from router.directory.quota import NO_LIMITS, Quota
from router.directory.tenants import TENANT, Tenant, TenantBook
from router.documents import Follower
from router.scopes import OPERATOR_SCOPES
from router.seeds import OperatorConfig


class Directory:
    """What this router knows of tenants and keys. Every question is answered from memory.

    It is not ready until the store was read: until then nobody can be told from anybody.
    """

    def __init__(self, operators: Sequence[OperatorConfig], defaults: Limits) -> None:
        self.tenants = TenantBook()
        self.keys = KeyBook({o.sha256: _operator(o) for o in operators})
        self._defaults = defaults

    @property
    def ready(self) -> bool:
        return self.tenants.complete

    @property
    def followers(self) -> Mapping[str, Follower]:
        """By kind of document."""
        return {TENANT: self.tenants, KEY: self.keys, OPERATOR_KEY: self.keys}

    def tenant(self, tenant_id: str) -> Tenant | None:
        """A tenant that exists now."""
        return self.tenants.get(tenant_id)

    def key_of(self, secret: str) -> ApiKey | None:
        """The valid key with this secret, of an operator or of a tenant that exists.

        The secret is hashed before it is looked up, so that how long it takes says nothing about any secret.
        """
        sha256 = hashlib.sha256(secret.encode(errors="replace")).hexdigest()
        key = self.keys.find(sha256, time.time() * 1000)
        if key is None or not key.tenant:
            return key
        tenant = self.tenants.get(key.tenant)
        return key if tenant is not None and tenant.uid == key.tenant_uid else None

    def keys_of(self, tenant: Tenant | None) -> list[ApiKey]:
        """A tenant's keys; None: the operators'. Not those of an earlier tenant with the same id."""
        keys = self.keys.of_tenant(tenant.id if tenant else "")
        return [key for key in keys if tenant is None or key.tenant_uid == tenant.uid]

    def accounts(self, tenant: Tenant, key: str, key_quota: Quota, model: str) -> tuple[Account, ...]:
        """What a request is counted for: the tenant's own account first, then those that bound anything."""
        accounts = [Account("", "", self.limits(tenant))]
        for name, quota in (("", tenant.quota), (key, key_quota)):
            if name and (limits := quota.limits.applied(NO_LIMITS)) != NO_LIMITS:
                accounts.append(Account(name, "", limits))
            of_model = quota.model_limits.get(model)
            if of_model is not None and (limits := of_model.applied(NO_LIMITS)) != NO_LIMITS:
                accounts.append(Account(name, model, limits))
        return tuple(accounts)

    def limits(self, tenant: Tenant) -> Limits:
        """A tenant's limits for all models together, with the service's defaults."""
        return tenant.quota.limits.applied(self._defaults)


def _operator(config: OperatorConfig) -> ApiKey:
    return ApiKey(name=config.name, scopes=OPERATOR_SCOPES, secrets=(config.secret,), created_by="config")
