"""API keys: made, listed, changed, rotated, revoked. A secret is in exactly one answer, and nowhere else."""

import hashlib
import secrets
import time
from collections.abc import Callable, Collection

from pydantic import ValidationError

from bitlane.v1 import admin_pb2 as apb
from broker.documents import Document
from broker.types import Change
from router.admin.convert import key_message, quota_of, scopes_of
from router.admin.editor import Editor
from router.admin.faults import document_unreadable, key_exists, key_limit_reached, key_revoked, unknown_key
from router.admin.pages import page_of
from router.admin.validation import check_key, check_new_key, check_overlap
from router.config import Config
from router.directory.directory import Directory
from router.directory.keys import ApiKey, Secret, key_document
from router.directory.tenants import Tenant
from router.faults import Fault, Violation, invalid
from router.identity.api_keys import PREFIX
from router.identity.caller import Caller
from router.managed import managed_tenant
from router.rpc import Call
from router.scopes import DEFAULT_SCOPES, OPERATOR_SCOPES, TENANT_SCOPES, Scope

_MOST = 1000  # keys of a tenant, revoked ones included: their names can be used again
_DEFAULT_OVERLAP_S = 24 * 3600


class KeyRoom:
    """The methods of `bitlane.v1.AdminService` that are about API keys."""

    def __init__(self, config: Config, directory: Directory, editor: Editor) -> None:
        self._models = config.models_by_name
        self._operators = frozenset(operator.name for operator in config.operators)
        self._directory = directory
        self._editor = editor

    async def create_api_key(self, request: apb.CreateApiKeyRequest, call: Call) -> apb.CreateApiKeyResponse:
        tenant = self._tenant(request.tenant, call.caller)
        violations = check_new_key(request, _allowed(tenant), self._models_of(tenant))
        violations += _check_owner("quota", request.quota, tenant)
        if violations:
            raise invalid(violations)
        default = DEFAULT_SCOPES if tenant else frozenset((Scope.READ,))
        scopes = scopes_of(request.scopes) or default
        _require_all(call.caller, scopes)
        sha256, secret = request.secret_sha256, ""
        if sha256:
            call.caller.require(Scope.OPERATE)
            if self._directory.keys.knows(sha256):
                raise invalid([Violation("secret_sha256", "is that of another key already")])
        else:
            secret, sha256 = _new_secret()
        key = ApiKey(
            tenant_uid=tenant.uid if tenant else "",
            scopes=scopes,
            secrets=(Secret(sha256=sha256),),
            created_ms=_now_ms(),
            created_by=call.caller.name,
            expires_ms=request.expires_at.ToMilliseconds() if request.HasField("expires_at") else None,
            quota=quota_of(request.quota),
        )
        self._check_room(tenant, request.name)

        def taken(current: Document) -> Fault | None:
            old = _read(current)
            gone = old.revoked_ms is not None or old.tenant_uid != key.tenant_uid
            return None if gone else key_exists(request.name)

        tenant_id = tenant.id if tenant else ""
        change = Change("CreateApiKey", tenant_id, before="", after=key.shown)
        document = await self._editor.create(
            key_document(tenant_id, request.name), key.text, call.caller.name, change, taken=taken
        )
        await self._editor.follow()
        return apb.CreateApiKeyResponse(key=key_message(key.of(document), _now_ms()), secret=secret)

    async def list_api_keys(self, request: apb.ListApiKeysRequest, call: Call) -> apb.ListApiKeysResponse:
        tenant = self._tenant(request.tenant, call.caller)
        keys = [(key.name, key) for key in self._directory.keys_of(tenant)]
        page, token = page_of(keys, request, "keys")
        now_ms = _now_ms()
        return apb.ListApiKeysResponse(keys=[key_message(key, now_ms) for key in page], next_page_token=token)

    async def update_api_key(self, request: apb.UpdateApiKeyRequest, call: Call) -> apb.UpdateApiKeyResponse:
        wanted = request.key
        tenant = self._tenant(wanted.tenant, call.caller)
        self._known(tenant, wanted.name)
        violations = check_key(wanted, _allowed(tenant), self._models_of(tenant))
        violations += _check_owner("key.quota", wanted.quota, tenant)
        if violations:
            raise invalid(violations)
        scopes = scopes_of(wanted.scopes)

        def change(key: ApiKey) -> ApiKey:
            _require_alive(key)
            _require_all(call.caller, scopes - key.scopes)
            return key.model_copy(
                update={
                    "scopes": scopes,
                    "expires_ms": wanted.expires_at.ToMilliseconds() if wanted.HasField("expires_at") else None,
                    "quota": quota_of(wanted.quota),
                }
            )

        key = await self._edit(tenant, wanted.name, call, "UpdateApiKey", change, wanted.etag)
        return apb.UpdateApiKeyResponse(key=key_message(key, _now_ms()))

    async def rotate_api_key(self, request: apb.RotateApiKeyRequest, call: Call) -> apb.RotateApiKeyResponse:
        tenant = self._tenant(request.tenant, call.caller)
        self._known(tenant, request.name)
        violations = check_overlap(request.overlap)
        if violations:
            raise invalid(violations)
        overlap_ms = request.overlap.ToMilliseconds() if request.HasField("overlap") else _DEFAULT_OVERLAP_S * 1000
        secret, sha256 = _new_secret()

        def rotate(key: ApiKey) -> ApiKey:
            _require_alive(key)
            # Whoever gets the secret may do what the key may.
            _require_all(call.caller, key.scopes)
            now_ms = _now_ms()
            current = next(old for old in key.secrets if old.expires_ms is None)
            overlapping = (Secret(sha256=current.sha256, expires_ms=now_ms + overlap_ms),) if overlap_ms else ()
            return key.model_copy(update={"secrets": (Secret(sha256=sha256), *overlapping), "rotated_ms": now_ms})

        key = await self._edit(tenant, request.name, call, "RotateApiKey", rotate)
        return apb.RotateApiKeyResponse(key=key_message(key, _now_ms()), secret=secret)

    async def revoke_api_key(self, request: apb.RevokeApiKeyRequest, call: Call) -> apb.RevokeApiKeyResponse:
        tenant = self._tenant(request.tenant, call.caller)
        self._known(tenant, request.name)

        def revoke(key: ApiKey) -> ApiKey | None:
            if key.revoked_ms is not None:
                return None
            return key.model_copy(update={"secrets": (), "revoked_ms": _now_ms()})

        key = await self._edit(tenant, request.name, call, "RevokeApiKey", revoke)
        return apb.RevokeApiKeyResponse(key=key_message(key, _now_ms()))

    def _tenant(self, named: str, caller: Caller) -> Tenant | None:
        """Whose keys; None: the operators'."""
        if caller.tenant is None and not named:
            return None
        return managed_tenant(self._directory, caller, named)

    def _models_of(self, tenant: Tenant | None) -> Collection[str]:
        return [model for model in self._models if tenant is None or tenant.may_use(model)]

    def _known(self, tenant: Tenant | None, name: str) -> None:
        """Raises Fault NOT_FOUND."""
        if not any(key.name == name for key in self._directory.keys_of(tenant)):
            raise unknown_key(name)

    def _check_room(self, tenant: Tenant | None, name: str) -> None:
        """Raises Fault when the key would be one too many, or its name is an operator's of the configuration."""
        if tenant is None and name in self._operators:
            raise key_exists(name)
        names = {key.name for key in self._directory.keys_of(tenant)}
        if name not in names and len(names) >= _MOST:
            raise key_limit_reached(_MOST)

    async def _edit(
        self,
        tenant: Tenant | None,
        name: str,
        call: Call,
        action: str,
        change: Callable[[ApiKey], ApiKey | None],
        etag: str = "",
    ) -> ApiKey:
        """The key after a change; None as the changed key leaves it as it is."""
        tenant_id = tenant.id if tenant else ""

        def make(current: Document) -> tuple[str, Change] | None:
            old = _read(current)
            if tenant is not None and old.tenant_uid != tenant.uid:
                raise unknown_key(name)
            new = change(old)
            return new and (new.text, Change(action, tenant_id, before=old.shown, after=new.shown))

        document = await self._editor.edit(
            key_document(tenant_id, name), call.caller.name, make, missing=unknown_key(name), etag=etag
        )
        await self._editor.follow()
        return _read(document)


def _allowed(tenant: Tenant | None) -> frozenset[Scope]:
    return TENANT_SCOPES if tenant else OPERATOR_SCOPES


def _check_owner(field: str, quota: apb.Quota, tenant: Tenant | None) -> list[Violation]:
    if tenant is None and quota.ByteSize():
        return [Violation(field, "is set, and an operator's key generates nothing; leave it out")]
    return []


def _require_all(caller: Caller, scopes: frozenset[Scope]) -> None:
    """What may be given away: scopes that the caller has itself, and infer. Raises Fault PERMISSION_DENIED."""
    for scope in sorted(scopes - {Scope.INFER}):
        caller.require(scope)


def _require_alive(key: ApiKey) -> None:
    if key.revoked_ms is not None:
        raise key_revoked(key.name)


def _new_secret() -> tuple[str, str]:
    """A secret and its hash."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, hashlib.sha256(secret.encode()).hexdigest()


def _now_ms() -> int:
    return round(time.time() * 1000)


def _read(document: Document) -> ApiKey:
    try:
        return ApiKey.model_validate_json(document.text).of(document)
    except ValidationError:
        raise document_unreadable(document.name) from None
