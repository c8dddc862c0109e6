"""Tenants: created, shown, changed, deleted."""

import secrets
import time

from pydantic import ValidationError

from bitlane.v1 import admin_pb2 as apb
from broker.documents import Document
from broker.types import Change
from router.admin.convert import tenant_message, tenant_settings
from router.admin.editor import Editor
from router.admin.faults import document_unreadable, tenant_exists
from router.admin.pages import page_of
from router.admin.validation import check_tenant
from router.config import Config
from router.directory.directory import Directory
from router.directory.keys import key_document
from router.directory.tenants import Tenant, tenant_document
from router.faults import invalid, unknown_tenant
from router.managed import managed_tenant
from router.policies import POLICY, SHADOW
from router.rpc import Call


class TenantRoom:
    """The methods of `bitlane.v1.AdminService` that are about tenants."""

    def __init__(self, config: Config, directory: Directory, editor: Editor) -> None:
        self._models = config.models_by_name
        self._directory = directory
        self._editor = editor

    async def create_tenant(self, request: apb.CreateTenantRequest, call: Call) -> apb.CreateTenantResponse:
        self._check(request.tenant)
        tenant_id = request.tenant.id
        if self._directory.tenant(tenant_id) is not None:
            raise tenant_exists(tenant_id)
        tenant = Tenant(uid=secrets.token_hex(8), created_ms=round(time.time() * 1000)).model_copy(
            update=tenant_settings(request.tenant)
        )
        document = await self._editor.create(
            tenant_document(tenant_id),
            tenant.text,
            call.caller.name,
            Change("CreateTenant", tenant_id),
            taken=lambda _: tenant_exists(tenant_id),
        )
        if document.version > 1:
            # What the deletion of an earlier tenant left, if it was cut short; its keys open nothing in any case.
            await self._clear(tenant_id, call.caller.name, "CreateTenant", keep=tenant.uid)
        await self._editor.follow()
        return apb.CreateTenantResponse(tenant=tenant_message(tenant.of(document)))

    async def get_tenant(self, request: apb.GetTenantRequest, call: Call) -> apb.GetTenantResponse:
        return apb.GetTenantResponse(
            tenant=tenant_message(managed_tenant(self._directory, call.caller, request.tenant))
        )

    async def list_tenants(self, request: apb.ListTenantsRequest, call: Call) -> apb.ListTenantsResponse:
        own = call.caller.tenant
        tenants = self._directory.tenants.all if own is None else [own]
        page, token = page_of([(tenant.id, tenant) for tenant in tenants], request, "tenants")
        return apb.ListTenantsResponse(tenants=[tenant_message(t) for t in page], next_page_token=token)

    async def update_tenant(self, request: apb.UpdateTenantRequest, call: Call) -> apb.UpdateTenantResponse:
        self._check(request.tenant)
        tenant_id = request.tenant.id
        settings = tenant_settings(request.tenant)

        def make(current: Document) -> tuple[str, Change]:
            return _read(current).model_copy(update=settings).text, Change("UpdateTenant", tenant_id)

        document = await self._editor.edit(
            tenant_document(tenant_id),
            call.caller.name,
            make,
            missing=unknown_tenant(tenant_id),
            etag=request.tenant.etag,
        )
        await self._editor.follow()
        return apb.UpdateTenantResponse(tenant=tenant_message(_read(document)))

    async def delete_tenant(self, request: apb.DeleteTenantRequest, call: Call) -> apb.DeleteTenantResponse:
        tenant_id = managed_tenant(self._directory, call.caller, request.tenant).id
        # From this step on nobody of the tenant is let in. The rest tidies up.
        await self._editor.edit(
            tenant_document(tenant_id),
            call.caller.name,
            lambda _: ("", Change("DeleteTenant", tenant_id)),
            missing=unknown_tenant(tenant_id),
            etag=request.etag,
        )
        await self._clear(tenant_id, call.caller.name, "DeleteTenant")
        await self._editor.follow()
        return apb.DeleteTenantResponse()

    def _check(self, tenant: apb.Tenant) -> None:
        violations = check_tenant(tenant, self._models)
        if violations:
            raise invalid(violations)

    async def _clear(self, tenant_id: str, author: str, action: str, keep: str = "") -> None:
        """Clears what belongs to a tenant beside its settings, but for the keys of the one with the uid to keep."""
        for key in [key for key in self._directory.keys.of_tenant(tenant_id) if key.tenant_uid != keep]:
            change = Change(action, tenant_id, before=key.shown, after="")
            await self._editor.clear(key_document(tenant_id, key.name), author, change)
        for kind in (POLICY, SHADOW):
            await self._editor.clear(f"{kind}/{tenant_id}", author, Change(action, tenant_id))


def _read(document: Document) -> Tenant:
    try:
        return Tenant.model_validate_json(document.text).of(document)
    except ValidationError:
        raise document_unreadable(document.name) from None
