"""`client.admin.tenants` and `client.admin.keys`, for asyncio."""

from collections.abc import Sequence
from datetime import datetime

from bitlane import admin_convert, convert
from bitlane.admin_room import AsyncPages, Page, Room
from bitlane.admin_types import ApiKey, IssuedKey, Quota, Scope, ScopeName, Tenant
from bitlane.v1 import admin_pb2 as pb


class AsyncTenants(Room):
    """Who may use the service. Changes need an operator's key."""

    async def create(self, tenant: Tenant) -> Tenant:
        """Makes a tenant; only its id is required. Raises AlreadyExists when there is one."""
        request = pb.CreateTenantRequest(tenant=admin_convert.tenant_to_wire(tenant))
        reply = await self._call(lambda stub: stub.CreateTenant, request, repeatable=False)
        return admin_convert.tenant(reply.tenant)

    async def get(self, tenant: str = "") -> Tenant:
        """One tenant; default: the key's own. Raises NotFound."""
        reply = await self._call(lambda stub: stub.GetTenant, pb.GetTenantRequest(tenant=tenant))
        return admin_convert.tenant(reply.tenant)

    def list(self) -> AsyncPages[Tenant]:
        """The tenants that the key may manage, by id."""

        async def fetch(token: str) -> Page[Tenant]:
            reply = await self._call(lambda stub: stub.ListTenants, pb.ListTenantsRequest(page_token=token))
            return [admin_convert.tenant(each) for each in reply.tenants], reply.next_page_token

        return AsyncPages(fetch)

    async def update(self, tenant: Tenant) -> Tenant:
        """Replaces a tenant's settings: `update(dataclasses.replace(await get("acme"), weight=2.0))`.

        An empty etag replaces whatever there is.

        Raises:
            EditConflict: the settings have changed since the tenant was read.
        """
        request = pb.UpdateTenantRequest(tenant=admin_convert.tenant_to_wire(tenant))
        reply = await self._call(lambda stub: stub.UpdateTenant, request, repeatable=not tenant.etag)
        return admin_convert.tenant(reply.tenant)

    async def delete(self, tenant: str, *, etag: str = "") -> None:
        """Removes a tenant and its keys. What it has running goes on to its end; its usage stays."""
        request = pb.DeleteTenantRequest(tenant=tenant, etag=etag)
        await self._call(lambda stub: stub.DeleteTenant, request, repeatable=False)


class AsyncKeys(Room):
    """API keys. `tenant` is for operators' keys, which manage the operators' own without it; others, their tenant's."""

    async def create(
        self,
        name: str,
        *,
        tenant: str = "",
        scopes: Sequence[Scope | ScopeName] = (),
        expires_at: datetime | None = None,
        quota: Quota | None = None,
        secret_sha256: str = "",
    ) -> IssuedKey:
        """Makes a key. Its secret is in the answer, and nobody can show it again.

        Args:
            scopes: Default: infer and read; of an operator's key: read. A caller can give away only scopes that it has,
                or infer.
            expires_at: Default: never.
            quota: Bounds for this key alone, beside the tenant's. Not for an operator's key, which generates nothing.
            secret_sha256: Of a key that exists elsewhere already, in hex, instead of a new secret. Operators only.

        Raises:
            AlreadyExists: there is a key of this name.
        """
        request = pb.CreateApiKeyRequest(
            tenant=tenant,
            name=name,
            scopes=admin_convert.scopes_to_wire(scopes, "scopes"),
            expires_at=admin_convert.moment_to_wire(expires_at, "expires_at") if expires_at else None,
            quota=admin_convert.quota_to_wire(quota, "quota") if quota else None,
            secret_sha256=secret_sha256,
        )
        reply = await self._call(lambda stub: stub.CreateApiKey, request, repeatable=False)
        return IssuedKey(admin_convert.key(reply.key), reply.secret)

    def list(self, *, tenant: str = "") -> AsyncPages[ApiKey]:
        """The keys, by name, without their secrets; revoked and expired ones too."""

        async def fetch(token: str) -> Page[ApiKey]:
            request = pb.ListApiKeysRequest(tenant=tenant, page_token=token)
            reply = await self._call(lambda stub: stub.ListApiKeys, request)
            return [admin_convert.key(each) for each in reply.keys], reply.next_page_token

        return AsyncPages(fetch)

    async def update(self, key: ApiKey) -> ApiKey:
        """Replaces a key's scopes, end and quota; its tenant and name say which. An empty etag replaces whatever is.

        Raises:
            EditConflict: the key has changed since it was read.
        """
        request = pb.UpdateApiKeyRequest(key=admin_convert.key_to_wire(key))
        reply = await self._call(lambda stub: stub.UpdateApiKey, request, repeatable=not key.etag)
        return admin_convert.key(reply.key)

    async def rotate(self, name: str, *, tenant: str = "", overlap: float | None = None) -> IssuedKey:
        """Gives a key a new secret, which is in the answer.

        Args:
            overlap: Seconds that the old secret stays valid, at most 30 days. Default: 24 hours; 0: it ends at once.
        """
        lasting = convert.duration_to_wire(overlap) if overlap is not None else None
        request = pb.RotateApiKeyRequest(tenant=tenant, name=name, overlap=lasting)
        # Twice would end the secret that is in use.
        reply = await self._call(lambda stub: stub.RotateApiKey, request, repeatable=False)
        return IssuedKey(admin_convert.key(reply.key), reply.secret)

    async def revoke(self, name: str, *, tenant: str = "") -> ApiKey:
        """Ends a key at once and for good."""
        reply = await self._call(lambda stub: stub.RevokeApiKey, pb.RevokeApiKeyRequest(tenant=tenant, name=name))
        return admin_convert.key(reply.key)
