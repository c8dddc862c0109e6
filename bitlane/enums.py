"""The enums, and their names as plain strings.

Every enum is a string too: `task="math"` and `task=Task.MATH` are the same, and so are comparisons. A value that this
version of the SDK does not know yet reads as UNSPECIFIED.
"""

from enum import StrEnum
from typing import Literal, TypeAlias

PrecisionName: TypeAlias = Literal["fp4", "fp8", "bf16"]
PriorityName: TypeAlias = Literal["interactive", "standard", "batch"]
RoleName: TypeAlias = Literal["system", "user", "assistant"]
TaskName: TypeAlias = Literal[
    "chat",
    "creative_writing",
    "general_instruction",
    "classification",
    "summarization",
    "transform",
    "code",
    "factual_qa",
    "reasoning",
    "math",
    "science",
    "legal",
    "medical",
    "finance",
]


class Precision(StrEnum):
    """The numeric format that a pool computes in, lowest first."""

    UNSPECIFIED = "unspecified"
    FP4 = "fp4"
    FP8 = "fp8"
    BF16 = "bf16"


class Task(StrEnum):
    """What a prompt asks for; decides how much its answer suffers from low precision."""

    UNSPECIFIED = "unspecified"
    CHAT = "chat"
    CREATIVE_WRITING = "creative_writing"
    GENERAL_INSTRUCTION = "general_instruction"
    CLASSIFICATION = "classification"
    SUMMARIZATION = "summarization"
    TRANSFORM = "transform"
    CODE = "code"
    FACTUAL_QA = "factual_qa"
    REASONING = "reasoning"
    MATH = "math"
    SCIENCE = "science"
    LEGAL = "legal"
    MEDICAL = "medical"
    FINANCE = "finance"


class Sensitivity(StrEnum):
    """How much a task suffers from FP4."""

    UNSPECIFIED = "unspecified"
    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    CRITICAL = "critical"


class Priority(StrEnum):
    """Order of work within a tenant; batch work also yields to other tenants'."""

    UNSPECIFIED = "unspecified"
    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


class Role(StrEnum):
    """Who speaks."""

    UNSPECIFIED = "unspecified"
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(StrEnum):
    """Why a generation ended."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    """The model ended its turn, or a stop text came."""
    LENGTH = "length"
    """max_tokens or the model's context was reached."""
    CANCELLED = "cancelled"


class DecisionReason(StrEnum):
    """Why the policy chose a precision."""

    UNSPECIFIED = "unspecified"
    PINNED = "pinned"
    CLIENT_FLOOR = "client_floor"
    RULE = "rule"
    LOW_SENSITIVITY = "low_sensitivity"
    GATE_PASSED = "gate_passed"
    GATE_NOT_PASSED = "gate_not_passed"
    HIGH_SENSITIVITY = "high_sensitivity"
    CRITICAL_SENSITIVITY = "critical_sensitivity"
    LONG_CONTEXT = "long_context"
    LOW_CONFIDENCE = "low_confidence"
    UNCALIBRATED = "uncalibrated"
    SPILL = "spill"
    BROWNOUT = "brownout"
    GATE_QUARANTINED = "gate_quarantined"
    NO_FP4_POOL = "no_fp4_pool"
    TENANT_MAP = "tenant_map"
    NEVER_BELOW = "never_below"
    HIGH_RISK = "high_risk"
    RULE_FLOOR = "rule_floor"
    RULE_FORBID = "rule_forbid"


class GateState(StrEnum):
    """Whether FP4 of a checkpoint has been shown good enough for a task class."""

    UNSPECIFIED = "unspecified"
    UNVALIDATED = "unvalidated"
    PASSED = "passed"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class TaskSource(StrEnum):
    """Where the task class came from."""

    UNSPECIFIED = "unspecified"
    HINT = "hint"
    CLASSIFIER = "classifier"


class ComputePath(StrEnum):
    """How a pool computes in its precision."""

    UNSPECIFIED = "unspecified"
    NATIVE = "native"
    """The GPU multiplies in this precision."""
    WEIGHT_ONLY = "weight_only"
    """Weights are stored in it and widened before they are multiplied."""
    EMULATED = "emulated"
    """Values are rounded exactly as in it, and multiplied in a wider one."""
