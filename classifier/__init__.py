"""Prompt -> task class, and whether the prompt needs FP8.

The seam: a classifier is any callable that takes the last user turn (and, if there are any, the user's turns before it)
and returns a `Guess`. The trained one is `classifier.model.classify`; docs/classifier.md says how it works.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from precision.tasks import Task

THRESHOLD = 0.5
"""The shipped model's risk from which a prompt needs FP8. Training shifts the score so that it is 0.5."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A task class, and what speaks against serving it from FP4."""

    task: Task
    # 0 to 1: how sure it is that the class is on the right side of the line between what FP4 may serve and what not.
    # Chat taken for creative writing does no harm, and does not lower it.
    confidence: float
    risk: float | None = None  # 0 to 1: the score that the prompt needs FP8; None: not scored

    @property
    def needs_fp8(self) -> bool:
        """By the risk where there is one."""
        return self.risk is None or self.risk >= THRESHOLD


class Classifier(Protocol):
    """Judges a prompt. Never raises, whatever the text."""

    def __call__(self, text: str, earlier: Sequence[str] = (), /) -> Guess: ...
