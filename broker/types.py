"""What goes into and comes out of the broker. Bodies are opaque bytes: the broker knows no protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """Order of work within a tenant; BATCH also yields to the others across tenants. Values equal `bitlane.v1`."""

    INTERACTIVE = 1
    STANDARD = 2
    BATCH = 3


@dataclass(frozen=True, slots=True)
class RequestRef:
    """Names a request. Ids are unique within a tenant only, so that no tenant can meet another's."""

    tenant: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what an account admits. None: unbounded."""

    requests_per_minute: int | None = None  # a bucket that fills up in a minute
    tokens_per_minute: int | None = None  # the same over prompt and output tokens
    concurrent_requests: int | None = None  # waiting and running
    queued_requests: int | None = None  # waiting
    day_budget: int | None = None  # nanos of the currency, for a day of UTC
    month_budget: int | None = None  # the same for a month of UTC


@dataclass(frozen=True, slots=True)
class Account:
    """What a request is counted for: its tenant, and perhaps one of its keys, one of its models, or both together."""

    key: str  # name of the key; empty: all keys
    model: str  # empty: all models
    limits: Limits


@dataclass(frozen=True, slots=True)
class Price:
    """Of one token, in nanos of the currency."""

    prompt: int = 0
    cached_prompt: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to store and queue."""

    ref: RequestRef
    pool: str
    digest: str  # of the client's body: the same id with another digest is a conflict
    job: bytes  # what the worker gets
    decision: bytes  # what an attaching router gets
    router: str  # whose inbox takes the chunks
    timeout_ms: int | None  # until the deadline; None: no deadline
    prompt_tokens: int  # estimate
    output_tokens: int  # expected at most
    priority: Priority
    weight: float  # of the tenant, above 0
    migratable: bool  # whether another worker may go on after the first chunk
    key: str  # name of the credential, for usage
    task: str  # task class, for usage
    price: Price  # in the pool it goes to
    fp8_price: Price  # of the same tokens in FP8, for the savings
    accounts: tuple[Account, ...]  # the tenant's own (no key, no model) first; every one must admit the request
    pool_max_waiting: int | None  # bound on the waiting requests of all tenants in this pool


class SubmitStatus(Enum):
    ACCEPTED = "accepted"
    JOINED = "joined"  # the same id and digest: already known, nothing was queued; attach to it
    CONFLICT = "conflict"  # the same id with another digest
    OVER_LIMIT = "over_limit"  # an account does not admit it
    POOL_FULL = "pool_full"  # pool_max_waiting is reached
    TOO_LATE = "too_late"  # it would not be done by its deadline, at the rate that was measured


class Limit(Enum):
    """Which bound of an account refused a request. The fields of `Limits`."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    CONCURRENT_REQUESTS = "concurrent_requests"
    QUEUED_REQUESTS = "queued_requests"
    DAY_BUDGET = "day_budget"
    MONTH_BUDGET = "month_budget"


@dataclass(frozen=True, slots=True)
class OverLimit:
    """Why an account did not admit a request."""

    account: Account
    limit: Limit
    bound: int
    used: int  # before this request, rounded up; of the limit's own unit
    wanted: int  # by this request
    retry_after_ms: int | None  # when it may fit; None: not known, or never (wanted is above the bound)


@dataclass(frozen=True, slots=True)
class SubmitResult:
    status: SubmitStatus
    waiting: int  # of the tenant in the pool, after the call
    over: OverLimit | None = None  # OVER_LIMIT
    wait_ms: int | None = None  # TOO_LATE: when its turn would come
    run_ms: int | None = None  # TOO_LATE: how long it would run then; 0: not known


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to a request, until the lease's end; a newer lease has a higher epoch."""

    ref: RequestRef
    pool: str
    worker: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that a worker got."""

    lease: Lease
    job: bytes
    attempt: int  # 1 for the first worker
    chunks: tuple[bytes, ...]  # already logged by earlier attempts
    remaining_ms: int | None  # until the deadline
    waited_ms: int  # since it last entered the queue
    failures: int  # attempts in a row that failed without a new chunk; at max_attempts it is a dead letter


class Held(Enum):
    """Whether a worker still holds a request."""

    YES = "yes"
    ENDED = "ended"  # cancelled, or its deadline passed: stop working on it
    FENCED = "fenced"  # another epoch holds it, or it is gone: stop, and write nothing more


class Outcome(Enum):
    """Why a request ended: a closed set."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    REJECTED = "rejected"  # the engine found the job itself at fault; `detail` says what
    NOT_MIGRATABLE = "not_migratable"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"  # dead-lettered


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts by the engine's tokenizer."""

    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended. Times are ms since the epoch by the server's clock; None: it never came to that."""

    outcome: Outcome
    detail: str
    usage: Usage
    attempts: int
    profile: bytes  # of the last worker that claimed it; empty when none had
    submitted_ms: int
    claimed_ms: int | None  # first claim
    first_chunk_ms: int | None
    ended_ms: int
    next_index: int  # length of the token log


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a router gets that attaches to a request: everything from an index on; later chunks come by its inbox."""

    decision: bytes
    chunks: tuple[bytes, ...]  # from the asked index on
    next_index: int  # length of the log now
    ending: Ending | None  # None: still waiting or running


@dataclass(frozen=True, slots=True)
class ChunkEvent:
    """From an inbox: one chunk of a request's log."""

    ref: RequestRef
    index: int
    chunk: bytes


@dataclass(frozen=True, slots=True)
class EndEvent:
    """From an inbox: a request ended."""

    ref: RequestRef
    ending: Ending


@dataclass(frozen=True, slots=True)
class Gap:
    """From an inbox: entries of one shard may have been lost. Attach again to every stream of the shard's tenants."""

    shard: int


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """For a worker: the request was ended, or taken away, under the lease with this epoch."""

    ref: RequestRef
    epoch: int


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What became of a request whose worker let its lease run out."""

    ref: RequestRef
    worker: str
    epoch: int  # of the lease that ran out
    outcome: Outcome | None  # None: it waits again


class Interval(Enum):
    """How long one bucket of usage is, of UTC."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What requests that ended in one interval used, told apart by key, pool and task."""

    start_ms: int  # of the interval
    key: str
    pool: str
    task: str
    requests: int  # that ended, failed ones included
    failed: int  # that ended by the service's fault; they cost nothing
    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int
    cost: int  # nanos
    fp8_cost: int  # nanos


@dataclass(frozen=True, slots=True)
class AccountState:
    """How much of an account is used now."""

    requests_used: float  # of the bucket, not yet filled up again
    tokens_used: float
    waiting: int
    running: int
    reserved_tokens: int
    reserved_cost: int  # nanos
    day_spent: int  # nanos, of what has ended
    month_spent: int


class Directive(Enum):
    """What an operator wants a worker to do. It outlives the worker's restarts."""

    SERVE = "serve"
    DRAIN = "drain"  # claim nothing; what runs goes on
    QUARANTINE = "quarantine"  # claim nothing, and give back what runs


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, newest first."""

    items: tuple[T, ...]  # may be few, or none, before the end: the work of one call is bounded
    cursor: str  # `before_id` of the next page; empty: this was the last


@dataclass(frozen=True, slots=True)
class Change:
    """What the audit log tells of a change to a document, beside who made it and which one."""

    action: str  # the method, such as "PutPolicy"
    tenant: str  # whose it is; empty: concerns all
    before: str | None = None  # shown instead of the stored text, which may hold what nobody should see
    after: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change that somebody made."""

    event_id: str  # orders the events
    time_ms: int
    actor: str
    action: str
    resource: str
    tenant: str  # empty: concerns all
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A request that failed on `max_attempts` workers. Its job is kept for a replay, and is not shown."""

    letter_id: str  # orders the letters
    ref: RequestRef
    pool: str
    attempts: int
    detail: str  # of the last failure
    worker: str  # the last one
    died_ms: int  # by the server's clock


class Sickness(Enum):
    """Why a worker is ejected: it gets no more work, but a request now and then to show that it is well again."""

    FAILING = "failing"  # its engine fails half of its attempts or more, and other workers' do not
    SLOW = "slow"  # its streams get less than a quarter of the tokens per second of its peers'


@dataclass(frozen=True, slots=True)
class Fitness:
    """How a worker did of late; what it does not know is 0."""

    attempts: int = 0  # that came to their own end, or failed
    failed: int = 0  # of them, by its engine
    tokens_per_s: float = 0.0  # output of one stream


@dataclass(frozen=True, slots=True)
class Orders:
    """What the registry answers to a heartbeat."""

    directive: Directive
    ejected: Sickness | None = None  # not while it drains: what operators want stands above it
    others: int = 0  # workers of its pool that serve and are not ejected, without itself


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A live worker, as the registry shows it."""

    worker: str
    pool: str
    profile: bytes
    slots: int
    running: int
    draining: bool = False  # claims nothing: it stops, or was told so
    context_tokens: int = 0
    quarantined: bool = False  # draining, and has given back what ran
    ejected: Sickness | None = None  # claims one request now and then


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool as the registry and the queues show it."""

    pool: str
    workers: tuple[WorkerInfo, ...]
    waiting_by_priority: Mapping[Priority, int]  # of every priority
    oldest_ms_by_priority: Mapping[Priority, int]  # for how long the oldest has waited, this time; 0 when none waits
    running: int  # leases
    waiting_tokens: int  # estimated prompt and output tokens of what waits
    tokens_per_s: float | None  # of the same kind, measured while work waited; None: not known

    @property
    def waiting(self) -> int:
        """Requests of all priorities."""
        return sum(self.waiting_by_priority.values())


class BrokerError(Exception):
    """Base of the broker's errors."""


class BrokerUnavailable(BrokerError):
    """The server cannot be reached or did not answer in time. Whether the call took effect is not known."""


class ScriptUnknown(BrokerUnavailable):
    """The server has forgotten a transition, which then did nothing."""


class ChunkConflict(BrokerError):
    """The log holds another chunk at this index, or has gone on past it: the writer has lost count."""


class RequestNotFound(BrokerError):
    """No such request of this tenant, or its resume window is over."""


class IndexOutOfRange(BrokerError):
    """The index asked for is beyond the log's end."""

    def __init__(self, asked: int, next_index: int) -> None:
        super().__init__(f"index {asked} is beyond the log's end; the next index is {next_index}")
        self.asked = asked
        self.next_index = next_index
