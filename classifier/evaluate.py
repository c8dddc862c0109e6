"""Measures the shipped model on labelled prompts: `python -m classifier evaluate FILE.jsonl`.

A row that is marked `long_context` counts as FP8, because the product sends it there by its rule on tokens, whatever
the classifier says; it takes no part in the accuracy and in the AUC.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from classifier import THRESHOLD, Classifier, lexicon, weights
from classifier.scores import Judged, Scores, by_slice, score
from precision.tasks import Task

_TASKS = {task.name.lower(): task for task in Task}


class BadRowError(Exception):
    """A row cannot be used; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row of the file."""

    text: str
    task: Task
    fp8_required: bool
    slice: str
    long_context: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What `evaluate` prints."""

    file: str
    threshold: float
    overall: Scores
    slices: dict[str, Scores]
    latency_p50_ms: float
    latency_p99_ms: float
    model_bytes: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def evaluate(path: Path, classify: Classifier) -> Report:
    """Judges every row of a file.

    Raises:
        BadRowError: the file cannot be read, is empty, or has a bad row.
    """
    rows = list(read(path))
    if not rows:
        raise BadRowError(f"{path}: no rows")
    judgements: list[Judged] = []
    seconds: list[float] = []
    for row in rows:
        started = time.perf_counter()
        guess = classify(row.text)
        seconds.append(time.perf_counter() - started)
        risk = 1.0 if guess.risk is None else guess.risk
        needs = guess.needs_fp8 or row.long_context
        judgements.append(Judged(row.task, row.fp8_required, guess.task, needs, risk, row.long_context, row.slice))
    seconds.sort()
    return Report(
        file=str(path),
        threshold=THRESHOLD,
        overall=score(judgements),
        slices=by_slice(judgements),
        latency_p50_ms=1e3 * percentile(seconds, 0.5),
        latency_p99_ms=1e3 * percentile(seconds, 0.99),
        model_bytes=weights.WEIGHTS.stat().st_size + lexicon.PATH.stat().st_size,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least value that at least `share` of the ordered values do not exceed."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def read(path: Path) -> Iterator[Labelled]:
    """The rows of a JSONL file; empty lines are skipped. Raises BadRowError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRowError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _row(line, f"{path}:{number}")


def _row(line: str, at: str) -> Labelled:
    try:
        content: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRowError(f"{at}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadRowError(f"{at}: is {type(content).__name__}; a row is an object")
    row = cast("dict[str, object]", content)
    text, task, required = row.get("text"), row.get("task"), row.get("fp8_required")
    long_context = row.get("long_context", False)
    name = row.get("slice", row.get("source", ""))
    if not isinstance(text, str):
        raise BadRowError(f"{at}: text: is {text!r}; a string is needed")
    if not isinstance(task, str) or task not in _TASKS:
        raise BadRowError(f"{at}: task: is {task!r}; use one of {', '.join(_TASKS)}")
    if not isinstance(required, bool):
        raise BadRowError(f"{at}: fp8_required: is {required!r}; use true or false")
    if not isinstance(long_context, bool):
        raise BadRowError(f"{at}: long_context: is {long_context!r}; use true or false")
    if not isinstance(name, str):
        raise BadRowError(f"{at}: slice: is {name!r}; a string is needed")
    return Labelled(text, _TASKS[task], required, name, long_context)


def table(report: Report) -> str:
    """The report for people."""
    width = max(len(name) for name in (*report.slices, "overall"))
    lines = [f"{'':{width}}  prompts  accuracy  macro-F1  FP8 recall  FP4 kept    AUC"]
    for name, scores in (*report.slices.items(), ("overall", report.overall)):
        values = (scores.task_accuracy, scores.macro_f1, scores.fp8_recall, scores.fp4_kept, scores.auc)
        cells = ("-" if value is None else f"{value:.3f}" for value in values)
        lines.append(
            f"{name:{width}}  {scores.prompts:7}  "
            + "  ".join(f"{cell:>{wide}}" for cell, wide in zip(cells, (8, 8, 10, 8, 5), strict=True))
        )
    lines.append(
        f"threshold {report.threshold:g}; a prompt takes {report.latency_p50_ms:.2f} ms (p50), "
        f"{report.latency_p99_ms:.2f} ms (p99); model {report.model_bytes / 1e6:.2f} MB"
    )
    return "\n".join(lines)
