"""How good judgements are: accuracy, macro-F1, recall of what needs FP8, share kept in FP4, AUC."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from precision.tasks import Task


@dataclass(frozen=True, slots=True)
class Judged:
    """One labelled prompt and what was said of it."""

    task: Task
    fp8_required: bool
    guessed: Task
    needs_fp8: bool
    risk: float
    long_context: bool = False  # decided by the rule on tokens: no part of the classes' scores or of the AUC
    slice: str = ""


@dataclass(frozen=True, slots=True)
class Scores:
    """Of a set of prompts. None: nothing in the set to measure it on."""

    prompts: int
    task_accuracy: float | None
    macro_f1: float | None  # over the classes that occur as label
    fp8_recall: float | None
    fp4_kept: float | None  # share of the prompts FP4 may serve that stay there
    auc: float | None  # of the risk score


def score(rows: Sequence[Judged]) -> Scores:
    """Scores of a set, all its slices together."""
    own = [row for row in rows if not row.long_context]
    return Scores(
        prompts=len(rows),
        task_accuracy=_share(own, lambda row: row.guessed is row.task),
        macro_f1=_macro_f1(own),
        fp8_recall=_share([row for row in rows if row.fp8_required], lambda row: row.needs_fp8),
        fp4_kept=_share([row for row in rows if not row.fp8_required], lambda row: not row.needs_fp8),
        auc=_auc([row.risk for row in own if row.fp8_required], [row.risk for row in own if not row.fp8_required]),
    )


def by_slice(rows: Sequence[Judged]) -> dict[str, Scores]:
    """Scores of each slice, in the order in which they first occur. Empty if no row names one."""
    slices: dict[str, list[Judged]] = {}
    for row in rows:
        slices.setdefault(row.slice, []).append(row)
    if set(slices) <= {""}:
        return {}
    return {name or "(none)": score(members) for name, members in slices.items()}


def _share(rows: Sequence[Judged], holds: Callable[[Judged], bool]) -> float | None:
    return sum(holds(row) for row in rows) / len(rows) if rows else None


def _macro_f1(rows: Sequence[Judged]) -> float | None:
    values: list[float] = []
    for task in sorted({row.task for row in rows}):
        hits = sum(row.task is task and row.guessed is task for row in rows)
        named = sum(row.guessed is task for row in rows)
        there = sum(row.task is task for row in rows)
        values.append(2 * hits / (named + there))
    return sum(values) / len(values) if values else None


def _auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """The chance that a random prompt that needs FP8 scores above one that does not; a tie counts half."""
    if not positive or not negative:
        return None
    ranked = sorted([(value, True) for value in positive] + [(value, False) for value in negative])
    above, below, start = 0.0, 0, 0
    while start < len(ranked):
        end = start
        while end < len(ranked) and ranked[end][0] == ranked[start][0]:
            end += 1
        here = sum(is_positive for _, is_positive in ranked[start:end])
        others = end - start - here
        above += here * (below + others / 2)
        below += others
        start = end
    return above / (len(positive) * len(negative))
