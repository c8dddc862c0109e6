"""Features and pools with sensible values, for tests that care about one of them."""

from dataclasses import replace

from precision.decision import Features, PoolView, TaskSource
from precision.policy import Match, Policy, Rule
from precision.profile import Precision
from precision.tasks import Task

FP4, FP8, BF16 = Precision.FP4, Precision.FP8, Precision.BF16
EVERY = Match()


def pool(precision: Precision, *, workers: int = 1, waiting: int = 0, calibrated: bool = True) -> PoolView:
    return PoolView(f"m/{precision.name.lower()}", precision, workers, 16 * workers, waiting, calibrated)


POOLS = {FP4: pool(FP4), FP8: pool(FP8)}


def features(task: Task = Task.CHAT, **changes: object) -> Features:
    return replace(Features(task, TaskSource.HINT, 1.0, 100, model="m"), **changes)


def ruled(*rules: Rule) -> Policy:
    return Policy(rules=rules)
