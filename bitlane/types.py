"""What the SDK takes and returns: frozen dataclasses, and the enums of `bitlane.enums`.

Times are seconds, counts are tokens.
"""

from dataclasses import dataclass
from typing import TypedDict

from bitlane.enums import (
    ComputePath,
    DecisionReason,
    FinishReason,
    GateState,
    Precision,
    PrecisionName,
    Priority,
    PriorityName,
    Role,
    RoleName,
    Sensitivity,
    Task,
    TaskName,
    TaskSource,
)

__all__ = [
    "Accepted",
    "Cancellation",
    "Completion",
    "ComputePath",
    "Decision",
    "DecisionReason",
    "DecisionStep",
    "Delta",
    "Explanation",
    "FinishReason",
    "Finished",
    "GateState",
    "Message",
    "MessageDict",
    "Model",
    "Pool",
    "Precision",
    "PrecisionName",
    "Priority",
    "PriorityName",
    "Profile",
    "Receipt",
    "Role",
    "RoleName",
    "Sensitivity",
    "Task",
    "TaskName",
    "TaskSource",
    "TokenLogprobs",
    "TopLogprob",
    "Usage",
]


class MessageDict(TypedDict):
    """A chat message as a plain dict."""

    role: Role | RoleName
    content: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role | RoleName
    content: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of the precision policy for one request."""

    precision: Precision
    pool: str
    """model/precision, e.g. `smollm2/fp4`."""
    reason: DecisionReason
    rule: str
    """Name of the tenant's rule that decided; empty when none did."""
    policy_version: str
    task: Task
    task_source: TaskSource
    task_confidence: float
    """0 to 1. A hint counts as 1."""
    sensitivity: Sensitivity
    gate: GateState
    """Of FP4 for this task."""
    risk: float | None = None
    """The classifier's score that FP8 is needed, 0 to 1. None when it was not scored, as with a hint."""
    ignored_field: str = ""
    """The request field whose wish the tenant does not allow and its policy ignores."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """First event of a reply: the request is stored and will end exactly once."""

    request_id: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One candidate token at a position."""

    token_id: int
    logprob: float
    """Natural logarithm of its probability."""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log probabilities at one position."""

    logprob: float
    """Of the chosen token."""
    top: tuple[TopLogprob, ...]
    """The most probable tokens, best first."""


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of a reply."""

    index: int
    """Number of the first chunk in this delta, counted from 0."""
    next_index: int
    """What to ask `resume` for after this delta."""
    text: str
    """May be empty: a token can be a part of a character."""
    token_ids: tuple[int, ...] = ()
    """Vocabulary ids of the new tokens, where the engine tells them."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One entry a token, when asked for."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts, by the engine's own tokenizer."""

    prompt_tokens: int
    cached_prompt_tokens: int
    """Those of prompt_tokens that came from a prefix cache."""
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What a worker proved about itself."""

    precision: Precision
    weight_format: str
    """NVFP4, MXFP4, FP8_E4M3, BF16."""
    activation_format: str
    kv_cache_format: str
    group_size: int
    """Values that share one scale; 0: one scale a tensor or a row."""
    compute_path: ComputePath
    checkpoint_digest: str
    calibrated: bool
    engine: str
    engine_version: str
    gpu: str
    """Empty on a CPU."""
    sm: str
    """Compute capability such as `10.0`; empty on a CPU."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What really served the request."""

    decision: Decision
    profile: Profile | None
    """Of the worker that finished it; None when none had started."""
    attempts: int
    """Workers that worked on it: 1, and one more for each migration."""
    queue_time: float
    """Seconds from submission to the first claim by a worker."""
    time_to_first_token: float
    """Seconds from submission to the first chunk."""
    total_time: float
    """Seconds from submission to the end."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event of a reply."""

    reason: FinishReason
    usage: Usage
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole reply."""

    request_id: str
    text: str
    finish_reason: FinishReason
    usage: Usage
    receipt: Receipt
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()

    @property
    def decision(self) -> Decision:
        """Which precision served it, and why."""
        return self.receipt.decision

    @property
    def precision(self) -> Precision:
        """The precision that served it."""
        return self.receipt.decision.precision


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The answer to `cancel`."""

    cancelled: bool
    """False when the request had already ended."""
    reason: FinishReason | None
    """Why it ended; None when an error had ended it."""
    usage: Usage
    """What was generated until then."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers that serve one model in one precision."""

    name: str
    """model/precision."""
    precision: Precision
    workers: int
    slots: int
    """Requests that can run at once."""
    running: int
    waiting: int
    profile: Profile | None
    """Of one live worker; None when none is alive."""


@dataclass(frozen=True, slots=True)
class Model:
    """A logical model."""

    name: str
    context_tokens: int
    """Prompt and output together."""
    pools: tuple[Pool, ...]


@dataclass(frozen=True, slots=True)
class DecisionStep:
    """One step of a decision."""

    name: str
    applied: bool
    """Whether it had a say."""
    detail: str
    """A sentence for people."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision for a request that was not run, with every step that led to it."""

    decision: Decision
    steps: tuple[DecisionStep, ...]
    """In the order tried."""
    pools: tuple[Pool, ...]
    """The model's pools as the decision saw them."""
    estimated_prompt_tokens: int
    language: str = "unknown"
    """A guess by script and common words, such as `en`."""
