"""What the precision policy decides from, and what it decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from precision.profile import Precision
from precision.tasks import Task


class GateState(IntEnum):
    """Whether FP4 of a checkpoint is good enough for a task class. Values equal `bitlane.v1.GateState`."""

    UNVALIDATED = 1
    PASSED = 2
    FAILED = 3
    QUARANTINED = 4


class TaskSource(IntEnum):
    """Where the task class came from. Values equal `bitlane.v1.TaskSource`."""

    HINT = 1
    CLASSIFIER = 2


class PriorityClass(IntEnum):
    """Order of work within a tenant. Values equal `bitlane.v1.Priority`."""

    INTERACTIVE = 1
    STANDARD = 2
    BATCH = 3


class Reason(IntEnum):
    """Why a precision was chosen: a closed set. Values equal `bitlane.v1.DecisionReason`, where each is explained."""

    PINNED = 1
    CLIENT_FLOOR = 2
    RULE = 3
    LOW_SENSITIVITY = 4
    GATE_PASSED = 5
    GATE_NOT_PASSED = 6
    HIGH_SENSITIVITY = 7
    CRITICAL_SENSITIVITY = 8
    LONG_CONTEXT = 9
    LOW_CONFIDENCE = 10
    UNCALIBRATED = 11
    SPILL = 12
    BROWNOUT = 13
    GATE_QUARANTINED = 14
    NO_FP4_POOL = 15
    TENANT_MAP = 16
    NEVER_BELOW = 17
    HIGH_RISK = 18
    RULE_FLOOR = 19
    RULE_FORBID = 20


@dataclass(frozen=True, slots=True)
class Features:
    """What is known about a request before it runs."""

    task: Task
    task_source: TaskSource
    task_confidence: float  # 0 to 1; a hint counts as 1
    prompt_tokens: int  # estimate
    at_least: Precision | None = None  # the client's floor
    pin: Precision | None = None  # the client's pin
    risk: float | None = None  # 0 to 1: the classifier's score that FP8 is needed; None: not scored
    model: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    priority: PriorityClass = PriorityClass.STANDARD
    language: str = "unknown"  # a guess, see router.language


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as the policy sees it."""

    name: str
    precision: Precision
    workers: int  # live ones
    slots: int  # requests that can run at once
    waiting: int  # requests in its queue
    calibrated: bool  # whether every live worker's checkpoint was quantized with calibration data

    @property
    def pressure(self) -> float:
        """Waiting requests per slot; infinite when nobody works."""
        return self.waiting / self.slots if self.slots else float("inf")


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of the policy for one request."""

    precision: Precision
    pool: str
    reason: Reason
    rule: str  # of the tenant's policy; empty when none decided
    policy_version: str
    task: Task
    task_source: TaskSource
    task_confidence: float
    gate: GateState  # of FP4 for this task
    risk: float | None = None  # as in Features
    ignored: str = ""  # the request field whose wish the tenant does not allow and the policy ignores


class RefusalReason(Enum):
    """Why no pool may or can serve a request. Values are the `reason` of the error's ErrorInfo."""

    PRECISION_NOT_ALLOWED = "PRECISION_NOT_ALLOWED"  # the client asks for more than the tenant lets it
    PRECISION_UNAVAILABLE = "PRECISION_UNAVAILABLE"  # no pool of the model offers what is needed
    POOL_UNAVAILABLE = "POOL_UNAVAILABLE"  # the pool exists, but no worker is alive


@dataclass(frozen=True, slots=True)
class Refusal:
    """The policy's no. `field` is the request field that asked for too much; empty when none did."""

    reason: RefusalReason
    message: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a decision, for `Explain`."""

    name: str
    applied: bool  # whether it had a say
    detail: str  # a sentence for people
