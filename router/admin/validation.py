"""Whether a request of the admin API is well formed; every fault names its field."""

import math
import re
import time
from collections.abc import Collection, Iterable, Iterator

from google.protobuf import duration_pb2, timestamp_pb2

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from router.admin.convert import SCOPES_BY_NUMBER
from router.directory.quota import MOST, UNBOUNDED
from router.directory.stored import NAME
from router.directory.tenants import MAX_DISPLAY_NAME
from router.faults import Violation
from router.scopes import Scope

MAX_OVERLAP_S = 30 * 24 * 3600
_MAX_SECONDS = 253_402_300_799  # the end of the year 9999, as in Timestamp
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_tenant(tenant: apb.Tenant, models: Collection[str]) -> list[Violation]:
    return list(_check_tenant(tenant, models))


def check_new_key(
    request: apb.CreateApiKeyRequest, allowed: frozenset[Scope], models: Collection[str]
) -> list[Violation]:
    """A key that may have the scopes allowed, and limits for these models."""
    return [
        *check_name("name", request.name),
        *_check_scopes("scopes", request.scopes, allowed),
        *_check_end("expires_at", request.expires_at if request.HasField("expires_at") else None),
        *_check_quota("quota", request.quota, models),
        *_check_sha256(request.secret_sha256),
    ]


def check_key(key: apb.ApiKey, allowed: frozenset[Scope], models: Collection[str]) -> list[Violation]:
    """The same for a key that is to be changed."""
    violations = [
        *_check_scopes("key.scopes", key.scopes, allowed),
        *_check_end("key.expires_at", key.expires_at if key.HasField("expires_at") else None),
        *_check_quota("key.quota", key.quota, models),
    ]
    if not key.scopes:
        violations.append(Violation("key.scopes", "is empty; name them all, or revoke the key"))
    return violations


def check_overlap(overlap: duration_pb2.Duration) -> list[Violation]:
    seconds = overlap.seconds + overlap.nanos / 1e9
    if 0 <= seconds <= MAX_OVERLAP_S:
        return []
    return [Violation("overlap", f"is {seconds:g} s; use 0 to {MAX_OVERLAP_S} s (30 days)")]


def check_name(field: str, name: str) -> list[Violation]:
    if NAME.fullmatch(name):
        return []
    return [Violation(field, "must be 1 to 64 characters of a-z 0-9 . _ -, beginning with a letter or digit")]


def _check_tenant(tenant: apb.Tenant, models: Collection[str]) -> Iterator[Violation]:
    yield from check_name("tenant.id", tenant.id)
    if len(tenant.display_name) > MAX_DISPLAY_NAME or not tenant.display_name.isprintable():
        yield Violation("tenant.display_name", f"must be at most {MAX_DISPLAY_NAME} characters of printable text")
    if tenant.state not in apb.TenantState.values():
        yield Violation("tenant.state", f"is {tenant.state}; use active or suspended")
    if not 0 <= tenant.weight <= 1000 or math.isnan(tenant.weight):
        yield Violation("tenant.weight", f"is {tenant.weight:g}; use more than 0, up to 1000")
    if tenant.priority_ceiling not in pb.Priority.values():
        yield Violation("tenant.priority_ceiling", f"is {tenant.priority_ceiling}; use interactive, standard or batch")
    for number, model in enumerate(tenant.models):
        if model not in models:
            yield Violation(f"tenant.models[{number}]", f"is {model[:64]!r}; there are {', '.join(sorted(models))}")
    yield from _check_quota("tenant.quota", tenant.quota, models)


def _check_quota(path: str, quota: apb.Quota, models: Collection[str]) -> Iterator[Violation]:
    yield from _check_limits(f"{path}.limits", quota.limits)
    for model, limits in sorted(quota.model_limits.items()):
        if model not in models:
            yield Violation(f"{path}.model_limits", f"names {model[:64]!r}; there are {', '.join(sorted(models))}")
        else:
            yield from _check_limits(f"{path}.model_limits[{model}]", limits)


def _check_limits(path: str, limits: apb.Limits) -> Iterator[Violation]:
    for field, value in limits.ListFields():
        if not UNBOUNDED <= value <= MOST:
            yield Violation(f"{path}.{field.name}", f"is {value}; use 0 to {MOST}, or -1 for no bound")


def _check_scopes(path: str, scopes: Iterable[int], allowed: frozenset[Scope]) -> Iterator[Violation]:
    for number, value in enumerate(scopes):
        scope = SCOPES_BY_NUMBER.get(value)
        if scope is None or scope not in allowed:
            told = scope.value if scope else str(value)
            yield Violation(f"{path}[{number}]", f"is {told}; such a key may have {', '.join(sorted(allowed))}")


def _check_end(path: str, end: timestamp_pb2.Timestamp | None) -> Iterator[Violation]:
    if end is None:
        return
    if not 0 <= end.seconds <= _MAX_SECONDS or not 0 <= end.nanos < 10**9:
        yield Violation(path, "is no time between 1970 and 9999")
    elif end.seconds <= time.time():
        yield Violation(path, "is in the past; name a later time, or revoke the key")


def _check_sha256(sha256: str) -> Iterator[Violation]:
    if sha256 and not _SHA256.fullmatch(sha256):
        yield Violation("secret_sha256", "must be 64 hexadecimal digits in lower case, or be left out")
