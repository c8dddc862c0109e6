"""What goes into and comes out of the broker. Bodies are opaque bytes: the broker knows no protobuf."""

from dataclasses import dataclass
from enum import Enum, IntEnum


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
    max_waiting: int  # bound on the tenant's waiting requests in this pool


class SubmitStatus(Enum):
    ACCEPTED = "accepted"
    JOINED = "joined"  # the same id and digest: already known, nothing was queued; attach to it
    CONFLICT = "conflict"  # the same id with another digest
    QUEUE_FULL = "queue_full"  # max_waiting is reached


@dataclass(frozen=True, slots=True)
class SubmitResult:
    status: SubmitStatus
    waiting: int  # of the tenant in the pool, after the call


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


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A request that failed on `max_attempts` workers. Its job is kept for a replay, and is not shown."""

    ref: RequestRef
    pool: str
    attempts: int
    detail: str  # of the last failure
    worker: str  # the last one
    died_ms: int  # by the server's clock


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A live worker, as the registry shows it."""

    worker: str
    pool: str
    profile: bytes
    slots: int
    running: int
    draining: bool = False
    context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool as the registry and the queues show it."""

    pool: str
    workers: tuple[WorkerInfo, ...]
    waiting: int
    running: int  # leases


class BrokerError(Exception):
    """Base of the broker's errors."""


class BrokerUnavailable(BrokerError):
    """The server cannot be reached or did not answer in time. Whether the call took effect is not known."""


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
