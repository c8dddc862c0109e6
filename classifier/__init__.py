"""Prompt -> task class.

The seam: a classifier is any callable that takes the text of the last user turn and returns a `Guess`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from precision.tasks import Task


@dataclass(frozen=True, slots=True)
class Guess:
    """A task class, and how sure the classifier is of it (0 to 1)."""

    task: Task
    confidence: float


Classifier = Callable[[str], Guess]
