"""`client.admin` for blocking code: each call of `AsyncAdmin`, run by the client's thread, and nothing more."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeAlias, TypeVar

from bitlane.admin import AsyncAdmin, AsyncDeadLetters, AsyncWorkers
from bitlane.admin_room import AsyncPages
from bitlane.admin_tenants import AsyncKeys, AsyncTenants
from bitlane.admin_types import (
    ApiKey,
    AuditEvent,
    DeadLetter,
    IssuedKey,
    PoolStatus,
    Quota,
    QuotaState,
    Scope,
    ScopeName,
    Tenant,
    UsageDimension,
    UsageDimensionName,
    UsageInterval,
    UsageIntervalName,
    UsageRow,
    WorkerStatus,
)
from bitlane.background import BackgroundLoop

_Item = TypeVar("_Item")
_Running: TypeAlias = Callable[[], BackgroundLoop]


def _each(pages: AsyncPages[_Item], running: _Running) -> Iterator[_Item]:
    """A page at a time crosses the threads."""
    while items := running().run(pages.next_page()):
        yield from items


class Tenants:
    """Who may use the service; see `AsyncTenants` for what each call takes and raises."""

    def __init__(self, tenants: AsyncTenants, running: _Running) -> None:
        self._tenants = tenants
        self._running = running

    def create(self, tenant: Tenant) -> Tenant:
        """Makes a tenant; only its id is required."""
        return self._running().run(self._tenants.create(tenant))

    def get(self, tenant: str = "") -> Tenant:
        """One tenant; default: the key's own."""
        return self._running().run(self._tenants.get(tenant))

    def list(self) -> Iterator[Tenant]:
        """The tenants that the key may manage, by id."""
        return _each(self._tenants.list(), self._running)

    def update(self, tenant: Tenant) -> Tenant:
        """Replaces a tenant's settings: `update(dataclasses.replace(get("acme"), weight=2.0))`."""
        return self._running().run(self._tenants.update(tenant))

    def delete(self, tenant: str, *, etag: str = "") -> None:
        """Removes a tenant and its keys."""
        self._running().run(self._tenants.delete(tenant, etag=etag))


class Keys:
    """API keys; see `AsyncKeys` for what each call takes and raises."""

    def __init__(self, keys: AsyncKeys, running: _Running) -> None:
        self._keys = keys
        self._running = running

    def create(
        self,
        name: str,
        *,
        tenant: str = "",
        scopes: Sequence[Scope | ScopeName] = (),
        expires_at: datetime | None = None,
        quota: Quota | None = None,
        secret_sha256: str = "",
    ) -> IssuedKey:
        """Makes a key. Its secret is in the answer, and nobody can show it again."""
        return self._running().run(
            self._keys.create(
                name, tenant=tenant, scopes=scopes, expires_at=expires_at, quota=quota, secret_sha256=secret_sha256
            )
        )

    def list(self, *, tenant: str = "") -> Iterator[ApiKey]:
        """The keys, by name, without their secrets."""
        return _each(self._keys.list(tenant=tenant), self._running)

    def update(self, key: ApiKey) -> ApiKey:
        """Replaces a key's scopes, end and quota."""
        return self._running().run(self._keys.update(key))

    def rotate(self, name: str, *, tenant: str = "", overlap: float | None = None) -> IssuedKey:
        """Gives a key a new secret; the old one stays valid for `overlap` seconds, 24 hours by default."""
        return self._running().run(self._keys.rotate(name, tenant=tenant, overlap=overlap))

    def revoke(self, name: str, *, tenant: str = "") -> ApiKey:
        """Ends a key at once and for good."""
        return self._running().run(self._keys.revoke(name, tenant=tenant))


class Workers:
    """The live workers; see `AsyncWorkers`."""

    def __init__(self, workers: AsyncWorkers, running: _Running) -> None:
        self._workers = workers
        self._running = running

    def list(self, pool: str = "") -> Iterator[WorkerStatus]:
        """By pool, then name. Default: of all pools."""
        return _each(self._workers.list(pool), self._running)

    def drain(self, pool: str, worker: str) -> None:
        """Has it claim nothing more; what runs goes on."""
        self._running().run(self._workers.drain(pool, worker))

    def undrain(self, pool: str, worker: str) -> None:
        """Has it serve again, after a drain or a quarantine."""
        self._running().run(self._workers.undrain(pool, worker))

    def quarantine(self, pool: str, worker: str) -> None:
        """Has it claim nothing more and hand back what runs: other workers continue it."""
        self._running().run(self._workers.quarantine(pool, worker))


class DeadLetters:
    """Requests that failed on every attempt; see `AsyncDeadLetters`."""

    def __init__(self, letters: AsyncDeadLetters, running: _Running) -> None:
        self._letters = letters
        self._running = running

    def list(self, *, tenant: str = "") -> Iterator[DeadLetter]:
        """Newest first, without their prompts."""
        return _each(self._letters.list(tenant=tenant), self._running)

    def replay(self, request_id: str, *, tenant: str = "") -> None:
        """Queues it again, with no deadline and its attempts counted anew."""
        self._running().run(self._letters.replay(request_id, tenant=tenant))

    def purge(self, request_id: str, *, tenant: str = "") -> None:
        """Forgets it and its prompt."""
        self._running().run(self._letters.purge(request_id, tenant=tenant))


class Admin:
    """The calls of the admin API; see `AsyncAdmin` for what each takes and raises."""

    def __init__(self, admin: AsyncAdmin, running: _Running) -> None:
        self._admin = admin
        self._running = running
        self.tenants = Tenants(admin.tenants, running)
        self.keys = Keys(admin.keys, running)
        self.workers = Workers(admin.workers, running)
        self.dead_letters = DeadLetters(admin.dead_letters, running)

    def quota(self, tenant: str = "", *, key: str = "") -> list[QuotaState]:
        """How much of each limit is used now."""
        return self._running().run(self._admin.quota(tenant, key=key))

    def usage(
        self,
        tenant: str = "",
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        interval: UsageInterval | UsageIntervalName | None = None,
        group_by: Sequence[UsageDimension | UsageDimensionName] = (),
    ) -> list[UsageRow]:
        """Tokens, cost and savings of what ended."""
        return self._running().run(
            self._admin.usage(tenant, start=start, end=end, interval=interval, group_by=group_by)
        )

    def pools(self) -> list[PoolStatus]:
        """All pools, with what waits and runs there."""
        return self._running().run(self._admin.pools())

    def audit(self, *, tenant: str = "") -> Iterator[AuditEvent]:
        """Who changed what, newest first."""
        return _each(self._admin.audit(tenant=tenant), self._running)
