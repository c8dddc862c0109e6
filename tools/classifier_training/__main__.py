"""Leaves each fold of sources out in turn, fixes the threshold by that, fits all rows, writes the shipped weights."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from classifier.features import BUCKETS, Row, extract
from classifier.model import DENSE_LIMIT, WORDS_PRIOR, log_odds
from classifier.prompt import judged
from classifier.scores import Judged, Scores, by_slice, score
from classifier.weights import WEIGHTS
from precision.tasks import Sensitivity, Task
from tools.classifier_training.fit import Fitted, Settings, fit
from tools.classifier_training.rows import FOLDS, OWN, TrainingRow, row_weights, training_rows
from tools.classifier_training.vectors import encoder_words, word_vectors
from tools.classifier_training.write import pack, write

Floats = NDArray[np.float32]

# That the threshold has to reach on sources left out, and on own prompts left out: the goal of 0.98 and a margin.
RECALL = 0.985
_REPORT = WEIGHTS.with_name("training.json")
_COMMON = 0.02  # share of prompts from which a word counts as common, and weighs less
_FEWEST = 2  # prompts that a word must occur in to get a vector, unless the encoder knows it


class Matrices:
    """All rows as numbers."""

    def __init__(self, rows: list[TrainingRow], settings: Settings) -> None:
        found = [extract(judged(row.text)) for row in rows]
        ends = np.cumsum([0, *(len(row.buckets) for row in found)])
        self.sparse = csr_matrix(
            (np.concatenate([row.values for row in found]), np.concatenate([row.buckets for row in found]), ends),
            shape=(len(found), BUCKETS),
            dtype=np.float32,
        )
        by_hand = np.stack([row.dense for row in found])
        self.mean, self.deviation = by_hand.mean(0), by_hand.std(0) + np.float32(0.05)
        scaled = np.clip((by_hand - self.mean) / self.deviation, -DENSE_LIMIT, DENSE_LIMIT)
        self.words, self.word_weight = _vocabulary(found)
        self.vectors = word_vectors(self.words)
        place = {word: i for i, word in enumerate(self.words)}
        means = np.stack(
            [np.concatenate([self._mean(words, place) for words in (row.words, row.asked)]) for row in found]
        )
        self.dense = np.hstack([settings.dense_scale * scaled, settings.vector_scale * means]).astype(np.float32)

    def _mean(self, words: Sequence[str], place: dict[str, int]) -> Floats:
        rows = [place[word] for word in words if word in place]
        weight = self.word_weight[rows]
        return weight @ self.vectors[rows] / (weight.sum() + WORDS_PRIOR)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.classifier_training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with train.jsonl")
    data: Path = parser.parse_args().data
    settings = Settings()
    rows = training_rows(data)
    tasks = np.array([int(Task[row.task.upper()]) - 1 for row in rows])
    fp8 = np.array([Task[row.task.upper()].sensitivity >= Sensitivity.HIGH for row in rows])
    fold = np.array([-1 if row.variant else row.fold for row in rows])
    training_fold = np.array([row.fold for row in rows])
    print(f"{len(rows)} rows, of them {sum(row.variant for row in rows)} variants")
    matrices = Matrices(rows, settings)
    print(f"{matrices.sparse.nnz} hashed features, {len(matrices.words)} words")

    def train(chosen: NDArray[np.bool_]) -> tuple[Fitted, NDArray[np.int64]]:
        used = np.bincount(matrices.sparse[chosen].indices, minlength=BUCKETS)
        columns = np.flatnonzero(used >= settings.least_rows)
        weights = row_weights([row for row, take in zip(rows, chosen, strict=True) if take], settings.own_weight)
        hashed = matrices.sparse[chosen][:, columns].tocsr()
        return fit(hashed, matrices.dense[chosen], tasks[chosen], fp8[chosen], weights, settings), columns

    totals = np.zeros((len(rows), len(Task) + 1), np.float32)
    for left_out in range(len(FOLDS)):
        fitted, columns = train(training_fold != left_out)
        out = fold == left_out
        totals[out] = fitted.scores(matrices.sparse[out][:, columns].tocsr(), matrices.dense[out])
        print(f"fold {left_out}: left out {', '.join(FOLDS[left_out])}")

    measured = np.array([not row.variant and not row.long_context for row in rows])
    own = np.array([row.source == OWN for row in rows])
    temperature = _temperature(totals[measured & ~own], tasks[measured & ~own])
    odds = np.array([log_odds(total, temperature)[1] for total in totals])
    threshold = min(_quantile(odds[measured & fp8 & group]) for group in (own, ~own))
    guesses = [np.argmax(log_odds(total, temperature)[0]) for total in totals]
    left_out_rows = [
        Judged(
            Task(int(tasks[i]) + 1),
            bool(fp8[i]),
            Task(int(guesses[i]) + 1),
            bool(odds[i] >= threshold),
            float(odds[i]),
            slice=rows[i].source,
        )
        for i in np.flatnonzero(measured)
    ]
    figures = {
        "unseen_sources": _plain(score([row for row in left_out_rows if row.slice != OWN])),
        "own_prompts_left_out": _plain(score([row for row in left_out_rows if row.slice == OWN])),
        "by_source": {name: _plain(scores) for name, scores in by_slice(left_out_rows).items()},
        "threshold_log_odds": round(threshold, 4),
        "temperature": round(temperature, 3),
    }
    _REPORT.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: figures[name] for name in ("unseen_sources", "own_prompts_left_out")}, indent=1))

    fitted, columns = train(np.ones(len(rows), bool))
    write(
        pack(
            fitted,
            settings,
            columns,
            (matrices.mean, matrices.deviation),
            matrices.words,
            matrices.vectors,
            matrices.word_weight,
            (temperature, -threshold),
        )
    )
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size / 1e6:.2f} MB")


def _vocabulary(found: list[Row]) -> tuple[list[str], Floats]:
    """Words that get a vector, and their weights: the rarer in prompts, the heavier."""
    seen: dict[str, int] = {}
    for row in found:
        for word in set(row.words):
            seen[word] = seen.get(word, 0) + 1
    frequent = {word for word, times in seen.items() if times >= _FEWEST and 2 <= len(word) <= 24 and word.isalpha()}
    words = sorted(frequent | set(encoder_words()))
    share = np.array([seen.get(word, 0) / len(found) for word in words])
    return words, (_COMMON / (_COMMON + share)).astype(np.float32)


def _temperature(totals: Floats, tasks: NDArray[np.int64]) -> float:
    """The one that makes the classes' probabilities most likely on rows that were left out."""

    def surprise(temperature: float) -> float:
        scaled = totals[:, :-1] / temperature
        scaled = scaled - scaled.max(1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(tasks)), tasks]).mean())

    return min((round(float(value), 2) for value in np.arange(0.5, 2.01, 0.05)), key=surprise)


def _quantile(odds: Floats) -> float:
    """The log-odds that RECALL of them reach."""
    return float(np.sort(odds)[int((1 - RECALL) * len(odds))])


def _plain(scores: Scores) -> dict[str, float | int | None]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(scores).items()}


if __name__ == "__main__":
    main()
