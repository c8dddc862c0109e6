"""The trained classifier: a linear model over the features of `features.py`, and what no model should decide."""

import math
from collections.abc import Sequence

import numpy as np

from classifier import Classifier, Guess, lexicon, weights
from classifier.features import Floats, Row, extract
from classifier.prompt import judged
from classifier.weights import Weights
from precision.tasks import SENSITIVITY, Sensitivity, Task

DENSE_LIMIT = 5.0  # deviations: one strange feature must not decide alone
WORDS_PRIOR = 1.0  # added to the weight of a prompt's words: few words say little
_TASKS = tuple(Task)
_FP8 = np.array([SENSITIVITY[task] >= Sensitivity.HIGH for task in _TASKS])
_UNSURE = Guess(Task.GENERAL_INSTRUCTION, 0.0, 1.0)
# Below these shares of its words and letters a prompt's language counts as unknown.
_LEAST_KNOWN, _LEAST_SEEN = 0.25, 0.6
_SCRIPT_CHARACTERS = 200
_SEEN_SCRIPTS = ((0x00, 0x24F), (0x900, 0x97F), (0x3040, 0x30FF), (0x3400, 0x9FFF))  # Latin, Devanagari, kana, Han
_UNSPACED_FROM = 0x2E80


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
    dense = np.clip((row.dense - model.dense_mean) / model.dense_deviation, -DENSE_LIMIT, DENSE_LIMIT)
    total = row.values @ model.table[row.buckets] + dense @ model.dense + model.bias
    for part, words in enumerate((row.words, row.asked)):
        rows = [found for word in words if (found := model.words.get(word)) is not None]
        if rows:
            weight = model.word_weight[rows]
            total = total + (weight @ model.word_scores[rows, part]) / (weight.sum() + WORDS_PRIOR)
    return total.astype(np.float32)


def log_odds(total: Floats, temperature: float = 1.0) -> tuple[Floats, float]:
    """Probabilities of the classes, and the log-odds that FP8 is needed: the mean of what classes and risk head say."""
    raised = np.exp((total[:-1] - total[:-1].max()) / temperature)
    shares = (raised / raised.sum()).astype(np.float32)
    high = float(shares[_FP8].sum())
    return shares, 0.5 * float(np.log((high + 1e-4) / (1 - high + 1e-4))) + 0.5 * float(total[-1])


def guess(total: Floats, model: Weights) -> Guess:
    """The class and the risk. They do not contradict each other: a low risk never comes with a class for FP8."""
    shares, odds = log_odds(total, model.temperature)
    chance, risk = _logistic(odds), _logistic(odds + model.risk_shift)
    allowed = shares if risk >= 0.5 else np.where(_FP8, 0.0, shares)
    best = int(np.argmax(allowed))
    return Guess(_TASKS[best], chance if _FP8[best] else 1 - chance, risk)


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-min(max(odds, -30.0), 30.0)))


def is_unknown(text: str, row: Row, model: Weights) -> bool:
    """Whether the prompt is in a language or script that training has hardly seen."""
    if not text.isascii():
        letters = [ord(character) for character in text[:_SCRIPT_CHARACTERS] if character.isalpha()]
        seen = sum(any(low <= letter <= high for low, high in _SEEN_SCRIPTS) for letter in letters)
        if seen < _LEAST_SEEN * len(letters):
            return True
    spaced = [word for word in row.asked if word[0].isalpha() and ord(word[0]) < _UNSPACED_FROM]
    if not spaced or 2 * len(spaced) < len(row.asked):
        return False
    return sum(word in model.words for word in spaced) < _LEAST_KNOWN * len(spaced)
