"""The task taxonomy: fourteen classes, and how much each suffers from FP4."""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType


class Sensitivity(IntEnum):
    """How much a task suffers from FP4. Values equal `bitlane.v1.Sensitivity`."""

    LOW = 1
    MODERATE = 2
    HIGH = 3
    CRITICAL = 4


class Task(IntEnum):
    """What a prompt asks for. Values equal `bitlane.v1.Task`."""

    CHAT = 1
    CREATIVE_WRITING = 2
    GENERAL_INSTRUCTION = 3
    CLASSIFICATION = 4
    SUMMARIZATION = 5
    TRANSFORM = 6
    CODE = 7
    FACTUAL_QA = 8
    REASONING = 9
    MATH = 10
    SCIENCE = 11
    LEGAL = 12
    MEDICAL = 13
    FINANCE = 14

    @property
    def sensitivity(self) -> Sensitivity:
        return SENSITIVITY[self]


SENSITIVITY: Mapping[Task, Sensitivity] = MappingProxyType(
    {
        Task.CHAT: Sensitivity.LOW,
        Task.CREATIVE_WRITING: Sensitivity.LOW,
        Task.GENERAL_INSTRUCTION: Sensitivity.LOW,
        Task.CLASSIFICATION: Sensitivity.LOW,
        Task.SUMMARIZATION: Sensitivity.LOW,
        Task.TRANSFORM: Sensitivity.LOW,
        # Errors show at once, and often do no harm.
        Task.CODE: Sensitivity.MODERATE,
        Task.FACTUAL_QA: Sensitivity.MODERATE,
        # Errors compound through the chain of steps.
        Task.REASONING: Sensitivity.HIGH,
        Task.MATH: Sensitivity.HIGH,
        Task.SCIENCE: Sensitivity.HIGH,
        # Small errors have real consequences.
        Task.LEGAL: Sensitivity.CRITICAL,
        Task.MEDICAL: Sensitivity.CRITICAL,
        Task.FINANCE: Sensitivity.CRITICAL,
    }
)
