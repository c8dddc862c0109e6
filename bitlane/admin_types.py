"""What `client.admin` takes and returns: frozen dataclasses.

Counts are tokens or requests, moments have a time zone. Money is `Decimal` in units of the service's
currency, and exact: it has at most 9 decimals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from bitlane.admin_enums import (
    ApiKeyState,
    Scope,
    ScopeName,
    TenantState,
    TenantStateName,
    UsageDimension,
    UsageDimensionName,
    UsageInterval,
    UsageIntervalName,
    WorkerState,
)
from bitlane.request_types import (
    RequestOutcome,
    RequestState,
    RequestStatus,
    RequestStory,
    Transition,
    TransitionKind,
)
from bitlane.types import Precision, Priority, PriorityName, Profile, Task

__all__ = [
    "UNLIMITED",
    "ApiKey",
    "ApiKeyState",
    "AuditEvent",
    "DeadLetter",
    "IssuedKey",
    "Limits",
    "PoolStatus",
    "QueueStatus",
    "Quota",
    "QuotaState",
    "RequestOutcome",
    "RequestState",
    "RequestStatus",
    "RequestStory",
    "Scope",
    "ScopeName",
    "Tenant",
    "TenantState",
    "TenantStateName",
    "Transition",
    "TransitionKind",
    "UsageDimension",
    "UsageDimensionName",
    "UsageInterval",
    "UsageIntervalName",
    "UsageRow",
    "WorkerState",
    "WorkerStatus",
]

UNLIMITED: Final = -1
"""As a limit: no bound, whatever the service's default is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what is admitted. UNLIMITED: no bound; 0: nothing; None: the service's default, for a key no bound."""

    requests_per_minute: int | None = None
    """Token bucket of so many requests that fills up in a minute."""
    tokens_per_minute: int | None = None
    """Token bucket over prompt and output tokens. What a request reserved and did not use comes back at its end."""
    concurrent_requests: int | None = None
    """Admitted and not ended: waiting and running."""
    queued_requests: int | None = None
    """Waiting."""
    day_budget: Decimal | int | None = None
    """In units of the currency, by the price sheet, for a day of UTC. What runs counts with its reservation."""
    month_budget: Decimal | int | None = None
    """The same for a month of UTC."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Bounds for all models together, and for single models beside them: a request must keep both."""

    limits: Limits = field(default_factory=Limits)
    model_limits: Mapping[str, Limits] = field(default_factory=dict[str, Limits])
    """By model name."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A team or customer that uses the service."""

    id: str
    """1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit."""
    display_name: str = ""
    """For people; at most 200 characters."""
    state: TenantState | TenantStateName = TenantState.ACTIVE
    weight: float = 1.0
    """Share of a pool's tokens against other tenants' weights, above 0 and at most 1000."""
    models: Sequence[str] = ()
    """Models that it may use. Empty: all."""
    priority_ceiling: Priority | PriorityName = Priority.INTERACTIVE
    """The most urgent class that its requests run in; more urgent wishes are lowered to it."""
    quota: Quota = field(default_factory=Quota)
    etag: str = ""
    """Names this version of the settings, for the next `update`."""
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    tenant: str
    """Empty: an operator's key."""
    name: str
    """Unique within the tenant; 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit."""
    scopes: Sequence[Scope | ScopeName] = ()
    state: ApiKeyState = ApiKeyState.ACTIVE
    expires_at: datetime | None = None
    """None: it does not expire."""
    quota: Quota = field(default_factory=Quota)
    """Bounds for this key alone, beside the tenant's. What is None is unbounded."""
    created_at: datetime | None = None
    created_by: str = ""
    """Name of the key that made it."""
    rotated_at: datetime | None = None
    """Last change of its secret; None: never."""
    old_secret_expires_at: datetime | None = None
    """Until when the secret before the last rotation is valid. None, or past: it is not."""
    etag: str = ""
    """For the next `update`."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key that was just made or rotated, and its secret, which nobody can show again."""

    key: ApiKey
    secret: str = field(repr=False)
    """`bl_...`. Empty for a key that was made of a hash."""


@dataclass(frozen=True, slots=True)
class QuotaState:
    """How much of one account is used."""

    model: str
    """Empty: all models together."""
    limits: Limits
    """As they apply, defaults filled in; None: unbounded."""
    requests_used: float
    """Taken from the bucket and not yet filled up again."""
    tokens_used: float
    concurrent_requests: int
    """Admitted and not ended."""
    queued_requests: int
    reserved_tokens: int
    """For requests that have not ended."""
    reserved_cost: Decimal
    """For requests that have not ended, in units of the currency."""
    day_spent: Decimal
    """By requests that have ended, in units of the currency."""
    month_spent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What requests that ended used. What usage was not told apart by is None."""

    start_time: datetime | None = None
    """Of the interval."""
    tenant: str | None = None
    key: str | None = None
    model: str | None = None
    pool: str | None = None
    precision: Precision | None = None
    task: Task | None = None
    requests: int
    """That ended, failed ones included."""
    failed_requests: int
    """That ended by the service's fault: not migratable, or every attempt failed. They cost nothing."""
    prompt_tokens: int
    """By the engine's tokenizer, cached ones included."""
    cached_prompt_tokens: int
    output_tokens: int
    cost: Decimal
    """By the price sheet at the time of admission, in units of the currency."""
    fp8_cost: Decimal
    """What the same tokens would have cost in FP8."""
    currency: str
    """Such as `USD`."""

    @property
    def savings(self) -> Decimal:
        """Against FP8 alone, in units of the currency; below 0 where a dearer precision served."""
        return self.fp8_cost - self.cost

    @property
    def savings_share(self) -> float:
        """The savings as a part of what FP8 alone would have cost: 0.25 is a quarter less."""
        return float(self.savings / self.fp8_cost) if self.fp8_cost else 0.0


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What waits in a pool at one priority."""

    priority: Priority
    waiting: int
    """Requests."""
    oldest_wait: float | None
    """Seconds for which the oldest has waited, since it last entered the queue; None: none waits."""


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool as an operator sees it."""

    name: str
    """model/precision."""
    model: str
    precision: Precision
    workers: int
    slots: int
    """Requests that can run at once."""
    waiting: int
    """Requests."""
    running: int
    """Requests."""
    waiting_tokens: int
    """Estimated prompt and expected output tokens of what waits."""
    tokens_per_second: float | None
    """Measured while work waited, in tokens as above; None: not known."""
    queues: Sequence[QueueStatus] = ()
    """What waits, most urgent first."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A live worker."""

    name: str
    pool: str
    """model/precision."""
    state: WorkerState
    """What it says it does."""
    wanted_state: WorkerState
    """What it was told to do."""
    slots: int
    running: int
    context_tokens: int
    """Prompt and output together."""
    profile: Profile | None
    state_reason: str = ""
    """Why it is ejected: `failing` or `slow`."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A request that failed on every attempt, without its prompt."""

    tenant: str
    request_id: str
    pool: str
    """model/precision."""
    attempts: int
    detail: str
    """Of the last failure."""
    worker: str
    """The last one."""
    died_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change."""

    time: datetime | None
    actor: str
    """Key that made it, such as `acme/admin` or `operator/local`; `config` for what came from a server's file."""
    action: str
    """The method, such as `UpdateTenant`."""
    resource: str
    """Such as `tenant/acme` or `worker/smollm2/fp4/w1`."""
    tenant: str
    """Whose it is; empty for what concerns all."""
    before: str
    """As stored, cut at 4 KiB; empty when there was nothing. Never a secret nor its hash."""
    after: str
    """As stored, cut at 4 KiB; empty when it is gone."""
