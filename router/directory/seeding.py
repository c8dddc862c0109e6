"""The configuration's tenants, put into the store once.

A tenant that the store has ever had is left alone, a deleted one too. Keys and policy come before their tenant, so that
a router that dies between them leaves nothing half done: without its tenant a key opens nothing, and the next router
goes on. Two routers that seed at the same time do each put once: the other's is refused, whoever is first.
"""

import time
from collections.abc import Sequence

import structlog

from broker.documents import Documents, EtagMismatch
from broker.types import Change
from router.directory.directory import Directory
from router.directory.keys import ApiKey, Secret, key_document
from router.directory.tenants import Tenant, tenant_document
from router.policies import POLICY
from router.seeds import KeyConfig, TenantConfig

_log = structlog.get_logger("bitlane.router")
_AUTHOR = "config"
# A later tenant of the same id has a random one.
_UID = "config"


class Seeding:
    """Makes the directory complete: called by the watch whenever all that is stored was read."""

    def __init__(self, directory: Directory, documents: Documents, seeds: Sequence[TenantConfig]) -> None:
        self._directory = directory
        self._documents = documents
        self._seeds = seeds

    async def __call__(self) -> bool:
        """Puts what is missing, and says whether anything was. From the next call without any on, callers are known.

        Raises:
            BrokerUnavailable: some of it may be stored; the next call goes on.
        """
        known = self._directory.tenants.ever
        missing = [seed for seed in self._seeds if seed.id not in known]
        for seed in missing:
            await self._put(seed)
        if not missing:
            self._directory.tenants.complete = True
        return bool(missing)

    async def _put(self, seed: TenantConfig) -> None:
        now_ms = round(time.time() * 1000)
        for config in seed.keys:
            key = _key(config, now_ms)
            change = Change("CreateApiKey", seed.id, before="", after=key.shown)
            await self._put_new(key_document(seed.id, config.name), key.text, change)
        if seed.policy_text:
            await self._put_new(f"{POLICY}/{seed.id}", seed.policy_text, Change("PutPolicy", seed.id))
        await self._put_new(tenant_document(seed.id), _tenant(seed, now_ms).text, Change("CreateTenant", seed.id))
        _log.info("tenant.seeded", tenant=seed.id)

    async def _put_new(self, name: str, text: str, change: Change) -> None:
        try:
            await self._documents.put(name, text, author=_AUTHOR, etag="", audit=change)
        except EtagMismatch:
            _log.info("seed.known", name=name)  # another router was first


def _tenant(seed: TenantConfig, now_ms: int) -> Tenant:
    return Tenant(
        uid=_UID,
        created_ms=now_ms,
        display_name=seed.display_name,
        weight=seed.weight,
        models=seed.models,
        priority_ceiling=seed.priority_ceiling,
        quota=seed.quota.quota,
    )


def _key(key: KeyConfig, now_ms: int) -> ApiKey:
    return ApiKey(
        tenant_uid=_UID,
        scopes=key.scopes,
        secrets=(Secret(sha256=key.sha256),),
        created_ms=now_ms,
        created_by=_AUTHOR,
        expires_ms=round(key.expires.timestamp() * 1000) if key.expires else None,
        quota=key.quota.quota,
    )
