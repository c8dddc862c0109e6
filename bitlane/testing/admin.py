"""The fake admin service behind FakeServer: tenants, API keys, their limits, and usage, in memory.

Its callers are operators. Pools, workers, dead letters and the audit log are UNIMPLEMENTED.
"""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message as Wire
from google.protobuf.timestamp_pb2 import Timestamp

from bitlane import admin_convert, convert
from bitlane.admin_types import UsageRow
from bitlane.money import to_nanos
from bitlane.testing.script import Code, Fault, Method
from bitlane.testing.service import Context, FakeService
from bitlane.v1 import admin_pb2 as pb

_Item = TypeVar("_Item")

_GROUPS = {
    pb.USAGE_DIMENSION_TENANT: "tenant",
    pb.USAGE_DIMENSION_KEY: "key",
    pb.USAGE_DIMENSION_MODEL: "model",
    pb.USAGE_DIMENSION_POOL: "pool",
    pb.USAGE_DIMENSION_PRECISION: "precision",
    pb.USAGE_DIMENSION_TASK: "task",
    pb.USAGE_DIMENSION_TIME: "start_time",
}
_SUMS = (
    "requests",
    "failed_requests",
    "prompt_tokens",
    "cached_prompt_tokens",
    "output_tokens",
    "cost_nanos",
    "fp8_cost_nanos",
)
_SECONDS = {pb.USAGE_INTERVAL_MINUTE: 60, pb.USAGE_INTERVAL_DAY: 86_400}
_HOUR = 3_600
_OVERLAP = timedelta(hours=24)


class _Refused(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def _refuse(code: Code, reason: str, message: str, **metadata: str) -> NoReturn:
    raise _Refused(Fault(code, message, reason=reason, metadata=metadata))


class FakeAdmin:
    """The RPCs. Everything runs in the server's event loop."""

    def __init__(self, service: FakeService, usage: Sequence[UsageRow]) -> None:
        self._service = service
        self._tenants: dict[str, pb.Tenant] = {}
        self._keys: dict[tuple[str, str], pb.ApiKey] = {}
        self._hashes: dict[tuple[str, str], list[str]] = {}
        self._usage = usage

    def handlers(self) -> grpc.GenericRpcHandler:
        """For a server's `add_generic_rpc_handlers`."""
        answers: dict[Method, Callable[[Any], Wire]] = {
            "CreateTenant": self._create_tenant,
            "GetTenant": self._get_tenant,
            "ListTenants": self._list_tenants,
            "UpdateTenant": self._update_tenant,
            "DeleteTenant": self._delete_tenant,
            "CreateApiKey": self._create_api_key,
            "ListApiKeys": self._list_api_keys,
            "UpdateApiKey": self._update_api_key,
            "RotateApiKey": self._rotate_api_key,
            "RevokeApiKey": self._revoke_api_key,
            "GetQuotaState": self._get_quota_state,
            "GetUsage": self._get_usage,
        }
        made = {method: self._handler(method, answer) for method, answer in answers.items()}
        return grpc.method_handlers_generic_handler(pb.DESCRIPTOR.services_by_name["AdminService"].full_name, made)

    def _handler(self, method: Method, answer: Callable[[Any], Wire]) -> "grpc.RpcMethodHandler[Any, Any]":
        """Makes an answer an RPC, with what all calls of a fake server share: recording, keys, faults."""

        async def rpc(request: Wire, context: Context) -> Wire:
            async with self._service.call(method, "", request, context) as fault:
                await self._service.fail_early(fault, context)
                try:
                    response = answer(request)
                except _Refused as refused:
                    fault = refused.fault
                else:
                    if fault is None:
                        return response
                await self._service.fail(fault, context)
                raise AssertionError("abort raises")

        request_type: type[Wire] = getattr(pb, f"{method}Request")
        return grpc.unary_unary_rpc_method_handler(rpc, request_type.FromString, _serialize)

    def _create_tenant(self, request: pb.CreateTenantRequest) -> pb.CreateTenantResponse:
        if request.tenant.id in self._tenants:
            _refuse("ALREADY_EXISTS", "TENANT_EXISTS", f"there is a tenant {request.tenant.id} already")
        return pb.CreateTenantResponse(tenant=self._put_tenant(request.tenant, _stamp()))

    def _get_tenant(self, request: pb.GetTenantRequest) -> pb.GetTenantResponse:
        return pb.GetTenantResponse(tenant=self._tenant(request.tenant))

    def _list_tenants(self, request: pb.ListTenantsRequest) -> pb.ListTenantsResponse:
        listed = [self._tenants[name] for name in sorted(self._tenants)]
        tenants, more = _page(listed, request.page_size, request.page_token)
        return pb.ListTenantsResponse(tenants=tenants, next_page_token=more)

    def _update_tenant(self, request: pb.UpdateTenantRequest) -> pb.UpdateTenantResponse:
        before = self._tenant(request.tenant.id)
        _match(before.etag, request.tenant.etag)
        return pb.UpdateTenantResponse(tenant=self._put_tenant(request.tenant, before.created_at))

    def _delete_tenant(self, request: pb.DeleteTenantRequest) -> pb.DeleteTenantResponse:
        _match(self._tenant(request.tenant).etag, request.etag)
        del self._tenants[request.tenant]
        for name in [name for name in self._keys if name[0] == request.tenant]:
            self._shut_out(name)
            del self._keys[name]
        return pb.DeleteTenantResponse()

    def _create_api_key(self, request: pb.CreateApiKeyRequest) -> pb.CreateApiKeyResponse:
        if request.tenant:
            self._tenant(request.tenant)
        name = (request.tenant, request.name)
        known = self._keys.get(name)
        if known is not None and known.state != pb.API_KEY_STATE_REVOKED:
            _refuse("ALREADY_EXISTS", "KEY_EXISTS", f"there is a key {request.name} already")
        key = pb.ApiKey(
            tenant=request.tenant,
            name=request.name,
            scopes=request.scopes or (pb.SCOPE_INFER, pb.SCOPE_READ),
            state=pb.API_KEY_STATE_ACTIVE,
            expires_at=request.expires_at if request.HasField("expires_at") else None,
            quota=request.quota,
            created_at=_stamp(),
            created_by="operator/fake",
            etag=secrets.token_hex(4),
        )
        self._keys[name] = key
        return pb.CreateApiKeyResponse(key=key, secret=self._let_in(name, request.secret_sha256))

    def _list_api_keys(self, request: pb.ListApiKeysRequest) -> pb.ListApiKeysResponse:
        listed = [self._keys[name] for name in sorted(self._keys) if name[0] == request.tenant]
        keys, more = _page(listed, request.page_size, request.page_token)
        return pb.ListApiKeysResponse(keys=keys, next_page_token=more)

    def _update_api_key(self, request: pb.UpdateApiKeyRequest) -> pb.UpdateApiKeyResponse:
        wanted = request.key
        key = self._living_key(wanted.tenant, wanted.name)
        _match(key.etag, wanted.etag)
        for field in ("scopes", "expires_at", "quota"):
            key.ClearField(field)
        key.MergeFrom(pb.ApiKey(scopes=wanted.scopes, quota=wanted.quota, etag=secrets.token_hex(4)))
        if wanted.HasField("expires_at"):
            key.expires_at.CopyFrom(wanted.expires_at)
        return pb.UpdateApiKeyResponse(key=key)

    def _rotate_api_key(self, request: pb.RotateApiKeyRequest) -> pb.RotateApiKeyResponse:
        key = self._living_key(request.tenant, request.name)
        name = (request.tenant, request.name)
        overlap = request.overlap.ToTimedelta() if request.HasField("overlap") else _OVERLAP
        if not overlap:
            self._shut_out(name)
        key.rotated_at.CopyFrom(_stamp())
        key.old_secret_expires_at.CopyFrom(_stamp(overlap))
        key.etag = secrets.token_hex(4)
        return pb.RotateApiKeyResponse(key=key, secret=self._let_in(name))

    def _revoke_api_key(self, request: pb.RevokeApiKeyRequest) -> pb.RevokeApiKeyResponse:
        key = self._key(request.tenant, request.name)
        key.state = pb.API_KEY_STATE_REVOKED
        self._shut_out((request.tenant, request.name))
        return pb.RevokeApiKeyResponse(key=key)

    def _get_quota_state(self, request: pb.GetQuotaStateRequest) -> pb.GetQuotaStateResponse:
        """Nothing of it is used."""
        tenant = self._tenant(request.tenant)
        quota = self._key(request.tenant, request.key).quota if request.key else tenant.quota
        models = [pb.QuotaState(model=model, limits=quota.model_limits[model]) for model in sorted(quota.model_limits)]
        return pb.GetQuotaStateResponse(states=[pb.QuotaState(limits=quota.limits), *models])

    def _get_usage(self, request: pb.GetUsageRequest) -> pb.GetUsageResponse:
        """What the test put in, added up."""
        seconds = _SECONDS.get(request.interval, _HOUR)
        end = request.end_time.seconds if request.HasField("end_time") else int(datetime.now(UTC).timestamp())
        start = request.start_time.seconds if request.HasField("start_time") else end - 86_400
        start, end = start // seconds * seconds, -(-end // seconds) * seconds
        sums: dict[tuple[Any, ...], pb.UsageRow] = {}
        for row in map(_row, self._usage):
            at = row.start_time.seconds
            if not (start <= at < end and request.tenant in ("", row.tenant)):
                continue
            row.start_time.FromSeconds(at // seconds * seconds)
            names = [_GROUPS[each] for each in request.group_by]
            group = tuple(row.start_time.seconds if name == "start_time" else getattr(row, name) for name in names)
            if group not in sums:
                sums[group] = pb.UsageRow()
                for name in names:
                    sums[group].MergeFrom(pb.UsageRow(**{name: getattr(row, name)}))
            for name in _SUMS:
                setattr(sums[group], name, getattr(sums[group], name) + getattr(row, name))
        currency = self._usage[0].currency if self._usage else "USD"
        return pb.GetUsageResponse(rows=[sums[group] for group in sorted(sums)], currency=currency)

    def _tenant(self, name: str) -> pb.Tenant:
        return self._tenants.get(name) or _refuse("NOT_FOUND", "TENANT_NOT_FOUND", f"there is no tenant {name!r}")

    def _key(self, tenant: str, name: str) -> pb.ApiKey:
        return self._keys.get((tenant, name)) or _refuse("NOT_FOUND", "KEY_NOT_FOUND", f"there is no key {name!r}")

    def _living_key(self, tenant: str, name: str) -> pb.ApiKey:
        key = self._key(tenant, name)
        if key.state == pb.API_KEY_STATE_REVOKED:
            _refuse("FAILED_PRECONDITION", "KEY_REVOKED", f"key {name!r} is revoked for good")
        return key

    def _put_tenant(self, tenant: pb.Tenant, created_at: Timestamp) -> pb.Tenant:
        stored = self._tenants[tenant.id] = pb.Tenant()
        stored.CopyFrom(tenant)
        stored.etag = secrets.token_hex(4)
        stored.created_at.CopyFrom(created_at)
        stored.updated_at.CopyFrom(_stamp())
        return stored

    def _let_in(self, name: tuple[str, str], sha256: str = "") -> str:
        """A new secret for a key, unless its hash is given."""
        secret = "" if sha256 else f"bl_{secrets.token_urlsafe(32)}"
        known = sha256 or hashlib.sha256(secret.encode()).hexdigest()
        self._hashes.setdefault(name, []).append(known)
        self._service.secrets.add(known)
        return secret

    def _shut_out(self, name: tuple[str, str]) -> None:
        self._service.secrets.difference_update(self._hashes.pop(name, ()))


def _row(row: UsageRow) -> pb.UsageRow:
    message = pb.UsageRow(
        start_time=admin_convert.moment_to_wire(row.start_time, "start_time") if row.start_time else None,
        tenant=row.tenant or "",
        key=row.key or "",
        model=row.model or "",
        pool=row.pool or "",
        requests=row.requests,
        failed_requests=row.failed_requests,
        prompt_tokens=row.prompt_tokens,
        cached_prompt_tokens=row.cached_prompt_tokens,
        output_tokens=row.output_tokens,
        cost_nanos=to_nanos(row.cost),
        fp8_cost_nanos=to_nanos(row.fp8_cost),
    )
    if row.precision:
        message.precision = convert.precision_to_wire(row.precision)
    if row.task:
        message.task = convert.task_to_wire(row.task)
    return message


def _serialize(message: Wire) -> bytes:
    return message.SerializeToString()


def _stamp(later: timedelta = timedelta()) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) + later)
    return stamp


def _match(current: str, given: str) -> None:
    if given not in ("", current):
        _refuse("ABORTED", "ETAG_MISMATCH", "it has changed meanwhile", current_etag=current)


def _page(items: Sequence[_Item], size: int, token: str) -> tuple[Sequence[_Item], str]:
    start, size = int(token or 0), size or 100
    return items[start : start + size], str(start + size) if start + size < len(items) else ""
