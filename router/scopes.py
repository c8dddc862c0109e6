"""What a key may be used for, and what scope each method needs. A method that is missing stops the router's start."""

from collections.abc import Mapping
from enum import StrEnum


class Scope(StrEnum):
    """What a key may be used for."""

    INFER = "infer"  # generate, resume, cancel
    READ = "read"  # models, explanations, policies, gates, quotas, usage
    ADMIN = "admin"  # manage the tenant's keys, policy and dead letters
    OPERATE = "operate"  # manage the service: tenants, gates, pools and workers


# An operator's key belongs to no tenant, so there is nobody for whom it could generate.
OPERATOR_SCOPES = frozenset((Scope.READ, Scope.ADMIN, Scope.OPERATE))
# Who is of a tenant never manages what concerns all tenants.
TENANT_SCOPES = frozenset((Scope.INFER, Scope.READ, Scope.ADMIN))
DEFAULT_SCOPES = frozenset((Scope.INFER, Scope.READ))

SCOPES: Mapping[str, Mapping[str, Scope]] = {
    "bitlane.v1.InferenceService": {
        "Generate": Scope.INFER,
        "Complete": Scope.INFER,
        "Resume": Scope.INFER,
        "Cancel": Scope.INFER,
        "Explain": Scope.READ,
        "ListModels": Scope.READ,
    },
    "bitlane.v1.AdminService": {
        "CreateTenant": Scope.OPERATE,
        "GetTenant": Scope.READ,
        "ListTenants": Scope.READ,
        "UpdateTenant": Scope.OPERATE,
        "DeleteTenant": Scope.OPERATE,
        "CreateApiKey": Scope.ADMIN,
        "ListApiKeys": Scope.ADMIN,
        "UpdateApiKey": Scope.ADMIN,
        "RotateApiKey": Scope.ADMIN,
        "RevokeApiKey": Scope.ADMIN,
        "GetQuotaState": Scope.READ,
        "GetUsage": Scope.READ,
        "ListPools": Scope.OPERATE,
        "ListWorkers": Scope.OPERATE,
        "SetWorkerState": Scope.OPERATE,
        "ListDeadLetters": Scope.ADMIN,
        "ReplayDeadLetter": Scope.ADMIN,
        "PurgeDeadLetter": Scope.ADMIN,
        "ListAuditEvents": Scope.ADMIN,
    },
    "bitlane.v1.PolicyService": {
        "ValidatePolicy": Scope.READ,
        "DiffPolicies": Scope.READ,
        "ReplayPolicy": Scope.READ,
        "GetPolicy": Scope.READ,
        "PutPolicy": Scope.ADMIN,
        "ListPolicyVersions": Scope.READ,
        "RollbackPolicy": Scope.ADMIN,
        "GetShadowPolicy": Scope.READ,
        "SetShadowPolicy": Scope.ADMIN,
        "ClearShadowPolicy": Scope.ADMIN,
        "ListGates": Scope.READ,
        "SetGate": Scope.OPERATE,
    },
}
