"""The enums of the admin API, and their names as plain strings; `bitlane.enums` says how both are used."""

from enum import StrEnum
from typing import Literal, TypeAlias

ScopeName: TypeAlias = Literal["infer", "read", "admin", "operate"]
TenantStateName: TypeAlias = Literal["active", "suspended"]
UsageIntervalName: TypeAlias = Literal["minute", "hour", "day"]
UsageDimensionName: TypeAlias = Literal["tenant", "key", "model", "pool", "precision", "task", "time"]


class Scope(StrEnum):
    """What a key may be used for."""

    UNSPECIFIED = "unspecified"
    INFER = "infer"
    """Generate, resume, cancel."""
    READ = "read"
    """See models, explanations, policies, gates, quotas, usage, and what became of requests."""
    ADMIN = "admin"
    """Manage the tenant's keys, policy and dead letters."""
    OPERATE = "operate"
    """Manage the service: tenants, gates, pools and workers. Operators' keys only."""


class TenantState(StrEnum):
    """Whether a tenant may call."""

    UNSPECIFIED = "unspecified"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    """Its calls are refused with PermissionDenied; nothing is lost."""


class ApiKeyState(StrEnum):
    """Whether a key is valid."""

    UNSPECIFIED = "unspecified"
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class WorkerState(StrEnum):
    """What a worker does, or was told to do."""

    UNSPECIFIED = "unspecified"
    SERVING = "serving"
    DRAINING = "draining"
    """Claims nothing; what runs goes on."""
    QUARANTINED = "quarantined"
    """Claims nothing, and has handed back what ran: other workers continue it."""
    EJECTED = "ejected"
    """It fails, or is much slower than its peers, and gets one request now and then until it is well again."""


class UsageInterval(StrEnum):
    """How long one row of usage is, of UTC."""

    UNSPECIFIED = "unspecified"
    MINUTE = "minute"
    """Kept for 3 hours by default."""
    HOUR = "hour"
    """Kept for 14 days by default."""
    DAY = "day"
    """Kept for 400 days by default."""


class UsageDimension(StrEnum):
    """What usage is told apart by."""

    UNSPECIFIED = "unspecified"
    TENANT = "tenant"
    KEY = "key"
    MODEL = "model"
    POOL = "pool"
    PRECISION = "precision"
    TASK = "task"
    TIME = "time"
    """Each interval by itself; without it a row is over the whole time."""
