"""What `client.policies` takes and returns: frozen dataclasses. Documents are texts, which the server reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bitlane.types import (
    DecisionReason,
    GateState,
    Message,
    MessageDict,
    Precision,
    PrecisionName,
    Priority,
    PriorityName,
    Task,
    TaskName,
)

__all__ = [
    "Finding",
    "Gate",
    "PolicyChange",
    "PolicyCheck",
    "PolicyPut",
    "PolicyVersion",
    "ReplayOutcome",
    "ReplayResult",
    "ReplayRow",
    "Shadow",
    "ShadowCount",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a document, or noteworthy, at one place of it."""

    path: str
    """Such as `rules[2].match.tokens.min`; empty for the whole document."""
    description: str

    def __str__(self) -> str:
        return f"{self.path}: {self.description}" if self.path else self.description


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """What the server says about a document."""

    faults: tuple[Finding, ...]
    """Such a document is refused. Empty when it is good."""
    warnings: tuple[Finding, ...]
    """Allowed and probably not meant."""

    @property
    def ok(self) -> bool:
        return not self.faults


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One difference between two policies; empty where there is nothing on that side."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A tenant's policy at one version."""

    tenant: str
    version: int
    """Counts from 1. 0: the product's default, which acts until the first put."""
    etag: str
    """To be given to the next `put`; empty for the configuration's policy."""
    author: str
    created_at: datetime | None
    note: str
    document: str
    """YAML or JSON; empty in lists and in the answer to `put`."""


@dataclass(frozen=True, slots=True)
class PolicyPut:
    """The answer to `put` and `set_shadow`."""

    policy: PolicyVersion
    warnings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """A recorded request. Either `text` or `messages`."""

    model: str
    text: str | None = None
    messages: Sequence[Message | MessageDict] | None = None
    task: Task | TaskName | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    priority: Priority | PriorityName | None = None
    prompt_tokens: int | None = None
    """Default: estimated from the text."""
    at_least: Precision | PrecisionName | None = None
    pin: Precision | PrecisionName | None = None


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """A decision in short."""

    precision: Precision | None
    """None when the policy refused."""
    reason: DecisionReason | None
    rule: str
    refusal: str
    """Why the policy refused; empty when it decided."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What became of one row."""

    task: Task
    before: ReplayOutcome
    after: ReplayOutcome

    @property
    def moved(self) -> bool:
        """Whether another precision serves it, or it is refused under one of the two alone."""
        return self.before.precision is not self.after.precision


@dataclass(frozen=True, slots=True)
class ShadowCount:
    """How often the acting policy decided one thing and the shadow another."""

    acted_precision: Precision | None
    """None when the acting policy refused."""
    acted_reason: DecisionReason | None
    shadow_precision: Precision | None
    """None when the shadow would have refused."""
    shadow_reason: DecisionReason | None
    requests: int


@dataclass(frozen=True, slots=True)
class Shadow:
    """A policy that decides every request as well, and acts on none."""

    policy: PolicyVersion
    requests: int
    """Since it was attached; those of the last second perhaps not counted yet."""
    differing: int
    """Those for which another precision would have served, or which only one of the policies refuses."""
    counts: tuple[ShadowCount, ...]
    """Most frequent first."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether FP4 of one checkpoint is good enough for one task class."""

    model: str
    checkpoint_digest: str
    """Empty for engines without a checkpoint."""
    task: Task
    state: GateState
    author: str
    """`config` when the server's configuration says so; empty when nobody has said anything."""
    set_at: datetime | None
    evidence: str
