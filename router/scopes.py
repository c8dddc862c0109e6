"""What scope a key needs for each method. A served method that is missing here stops the start of the router."""

from collections.abc import Mapping

from router.config import Scope

SCOPES: Mapping[str, Mapping[str, Scope]] = {
    "bitlane.v1.InferenceService": {
        "Generate": Scope.INFER,
        "Complete": Scope.INFER,
        "Resume": Scope.INFER,
        "Cancel": Scope.INFER,
        "Explain": Scope.READ,
        "ListModels": Scope.READ,
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
