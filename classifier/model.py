"""The trained classifier: a linear model over the features of `features.py`, and what no model should decide."""

import math
import re
from collections.abc import Sequence
from itertools import compress

import numpy as np

from classifier import Classifier, Guess, lexicon, weights
from classifier.features import Floats, Row, extract
from classifier.prompt import judged
from classifier.weights import OUTPUTS, Weights
from precision.tasks import SENSITIVITY, Sensitivity, Task

DENSE_LIMIT = 5.0  # deviations: one strange feature must not decide alone
WORDS_PRIOR = 1.0  # added to the weight of a prompt's words: few words say little
_TASKS = tuple(Task)
_FP8 = tuple(SENSITIVITY[task] >= Sensitivity.HIGH for task in _TASKS)
_UNSURE = Guess(Task.GENERAL_INSTRUCTION, 0.0, 1.0)
# Below these shares of its words and letters a prompt's language counts as unknown.
_LEAST_KNOWN, _LEAST_SEEN = 0.25, 0.6
_SCRIPT_CHARACTERS = 200
# All but Latin, Devanagari, kana and Han.
_UNSEEN_SCRIPTS = re.compile(r"[^\0-\u024f\u0900-\u097f\u3040-\u30ff\u3400-\u9fff]+")
_UNSPACED_FROM = "\u2e80"


def load() -> Classifier:
    """The shipped classifier, ready to judge: nothing is read later.

    Raises:
        BadWeightsError: the weights are missing or not those that training wrote.
    """
    weights.shipped()
    lexicon.shipped()
    return classify


def classify(text: str, earlier: Sequence[str] = (), /) -> Guess:
    """The shipped model's guess. Never raises for any text: what it cannot read gets the risk 1."""
    try:
        return judge(text, earlier, weights.shipped())
    except (ArithmeticError, LookupError, ValueError):
        # No input is known that comes here. If there is one, it costs an FP8 slot, and not the request.
        return _UNSURE


def judge(text: str, earlier: Sequence[str], model: Weights) -> Guess:
    """What a model says of a prompt."""
    prompt = judged(text, earlier)
    row = extract(prompt)
    if not row.words or is_unknown(prompt.text, row, model):
        return _UNSURE
    return guess(scores(row, model), model)


def scores(row: Row, model: Weights) -> Floats:
    """One score for each task class, and the log-odds of the risk head."""
    deviations = (row.dense - model.dense_mean) / model.dense_deviation
    dense = np.minimum(np.maximum(deviations, -DENSE_LIMIT), DENSE_LIMIT)
    whole = _word_scores(row.words, model)
    asked = whole if row.asked is row.words else _word_scores(row.asked, model)
    total = row.values @ model.table.take(row.buckets, axis=0) + dense @ model.dense + model.bias
    return (total + whole[0] + asked[1]).astype(np.float32)


def _word_scores(words: Sequence[str], model: Weights) -> Floats:
    """The mean scores of words: as those of the whole prompt, and as those at its ends."""
    rows = np.array([row for row in map(model.words.get, words) if row is not None], np.int64)
    weight, of_words = model.word_weight.take(rows), model.word_scores.take(rows, axis=0)
    return (weight @ of_words.reshape(len(rows), 2 * OUTPUTS)).reshape(2, OUTPUTS) / (weight.sum() + WORDS_PRIOR)


def log_odds(total: Floats, temperature: float = 1.0) -> tuple[list[float], float]:
    """Probabilities of the classes, and the log-odds that FP8 is needed: the mean of what classes and risk head say."""
    *classes, risk = total.tolist()  # a few numbers: plain Python is faster
    highest = max(classes)
    raised = [math.exp((score - highest) / temperature) for score in classes]
    whole = sum(raised)
    shares = [share / whole for share in raised]
    high = sum(compress(shares, _FP8))
    return shares, 0.5 * math.log((high + 1e-4) / (1 - high + 1e-4)) + 0.5 * risk


def guess(total: Floats, model: Weights) -> Guess:
    """The class and the risk. They do not contradict each other: a low risk never comes with a class for FP8."""
    shares, odds = log_odds(total, model.temperature)
    chance, risk = _logistic(odds), _logistic(odds + model.risk_shift)
    allowed = shares if risk >= 0.5 else [0.0 if fp8 else share for share, fp8 in zip(shares, _FP8, strict=True)]
    best = allowed.index(max(allowed))
    return Guess(_TASKS[best], chance if _FP8[best] else 1 - chance, risk)


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-min(max(odds, -30.0), 30.0)))


def is_unknown(text: str, row: Row, model: Weights) -> bool:
    """Whether the prompt is in a language or script that training has hardly seen."""
    if not text.isascii():
        letters = "".join(filter(str.isalpha, text[:_SCRIPT_CHARACTERS]))
        if len(_UNSEEN_SCRIPTS.sub("", letters)) < _LEAST_SEEN * len(letters):
            return True
    spaced = [word for word in row.asked if word[0] < _UNSPACED_FROM and word[0].isalpha()]
    if not spaced or 2 * len(spaced) < len(row.asked):
        return False
    return sum(word in model.words for word in spaced) < _LEAST_KNOWN * len(spaced)
