"""The tenants of the local stack: made through the API at its first start, left alone at every later one.

The keys are for loopback only; anyone can read them here. The service gets and keeps only their hashes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import policy_pb2 as ppb
from bitlane.v1.admin_pb2_grpc import AdminServiceStub
from bitlane.v1.policy_pb2_grpc import PolicyServiceStub

OPERATOR = "bl_local_admin"  # in config/local.yaml
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class LocalKey:
    """A documented key of a tenant; without scopes it has the default ones."""

    name: str
    secret: str
    scopes: tuple[apb.Scope.ValueType, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalTenant:
    """A tenant with what belongs to it."""

    settings: apb.Tenant
    keys: tuple[LocalKey, ...]
    policy: str


TENANTS = (
    LocalTenant(
        apb.Tenant(id="acme", display_name="Acme: the default map, chat in FP4, mathematics in FP8"),
        (
            LocalKey("local", "bl_local_acme"),
            LocalKey("admin", "bl_local_acme_admin", (apb.SCOPE_READ, apb.SCOPE_ADMIN)),
        ),
        # The embedded NVFP4 weights are rounded at load, without calibration data; by default that alone means FP8.
        "allow_uncalibrated_fp4: true\nlong_context_tokens: 1024\n",
    ),
    LocalTenant(
        apb.Tenant(id="globex", display_name="Globex: careful, no uncalibrated FP4, twice the share", weight=2.0),
        (LocalKey("local", "bl_local_globex"),),
        "long_context_tokens: 1024\nclient:\n  pins: [FP8]\n",
    ),
)


def make_tenants(target: str, tenants: Sequence[LocalTenant] = TENANTS) -> None:
    """Makes the tenants that are not there yet. Raises grpc.RpcError."""
    metadata = (("authorization", f"Bearer {OPERATOR}"),)
    with grpc.insecure_channel(target) as channel:
        admin, policies = AdminServiceStub(channel), PolicyServiceStub(channel)
        for tenant in tenants:
            tenant_id = tenant.settings.id
            try:
                admin.CreateTenant(
                    apb.CreateTenantRequest(tenant=tenant.settings), metadata=metadata, timeout=_TIMEOUT_S
                )
            except grpc.RpcError as error:
                if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.ALREADY_EXISTS:
                    continue
                raise
            for key in tenant.keys:
                request = apb.CreateApiKeyRequest(
                    tenant=tenant_id,
                    name=key.name,
                    scopes=key.scopes,
                    secret_sha256=hashlib.sha256(key.secret.encode()).hexdigest(),
                )
                admin.CreateApiKey(request, metadata=metadata, timeout=_TIMEOUT_S)
            put = ppb.PutPolicyRequest(tenant=tenant_id, document=tenant.policy, note="of the local stack")
            policies.PutPolicy(put, metadata=metadata, timeout=_TIMEOUT_S)
